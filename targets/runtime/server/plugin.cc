#include "plugin.h"

#include <dlfcn.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include <string>

#include "log.h"

namespace deeprebirth {
namespace {

constexpr const char* kPlugin = "libtvm_runtime_opencl.so";

/*! \brief Return where TVM's libraries lie, with a slash at its end. */
std::string LibraryFolder() {
  Dl_info found{};
  if (dladdr(reinterpret_cast<void*>(&TVMFFIFunctionGetGlobal), &found) == 0 || !found.dli_fname) return "";
  std::string path = found.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

}  // namespace

void LoadPlugin() {
  std::string path = LibraryFolder() + kPlugin;
  if (access(path.c_str(), F_OK) != 0) return;
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) Say(std::string("no OpenCL: ") + dlerror());
}

}  // namespace deeprebirth
