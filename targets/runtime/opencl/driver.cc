#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <tvm/ffi/error.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "advice.h"

namespace deeprebirth::opencl {
namespace {

constexpr const char* kLibraryVariable = "DEEPREBIRTH_OPENCL_LIBRARY";

std::atomic<bool> forked{false};

std::vector<std::string> Candidates() {
  const char* given = std::getenv(kLibraryVariable);
  if (given && *given) return {given};
  return {
      "libOpenCL.so.1",
      "libOpenCL.so",
#if defined(__ANDROID__)
      "/vendor/lib64/libOpenCL.so",
      "/system/vendor/lib64/libOpenCL.so",
      "/vendor/lib64/egl/libGLES_mali.so",
      "/system/vendor/lib64/egl/libGLES_mali.so",
      "/vendor/lib/libOpenCL.so",
      "/system/vendor/lib/libOpenCL.so",
      "/vendor/lib/egl/libGLES_mali.so",
      "libOpenCL-pixel.so",
#endif
      "libGLES_mali.so",
      "libmali.so.1",
      "libmali.so",
  };
}

/*! \brief Fill the table from a library; return whether all functions are in it. */
bool Fill(void* library, Driver* driver) {
#define DEEPREBIRTH_FIND(NAME)                                                  \
  driver->NAME = reinterpret_cast<decltype(driver->NAME)>(dlsym(library, #NAME)); \
  if (driver->NAME == nullptr) return false;
  DEEPREBIRTH_OPENCL_FUNCTIONS(DEEPREBIRTH_FIND)
#undef DEEPREBIRTH_FIND
  return true;
}

/*! The library is never closed: drivers have threads of their own that run in it. */
Driver Load() {
  std::string tried;
  for (const std::string& name : Candidates()) {
    Driver driver;
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library && Fill(library, &driver)) {
      pthread_atfork(nullptr, nullptr, [] { forked = true; });
      return driver;
    }
    tried += (tried.empty() ? "" : ", ") + name;
  }
  TVM_FFI_THROW(RuntimeError) << "there is no OpenCL driver here (tried " << tried << "): " << HowToGetADriver();
}

}  // namespace

const Driver& Cl() {
  if (IsForked()) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL was in use when this process was forked, and cannot be used in it: "
                                << "start processes before OpenCL is used";
  }
  static const Driver driver = Load();
  return driver;
}

bool IsForked() { return forked; }

}  // namespace deeprebirth::opencl
