#include "program.h"

#include <tvm/ffi/error.h>

#include <atomic>
#include <cstdlib>

#include "cache.h"
#include "errors.h"

namespace deeprebirth::opencl {
namespace {

constexpr const char* kOptionsVariable = "DEEPREBIRTH_OPENCL_OPTIONS";
constexpr size_t kMostOfLog = 4000;

std::atomic<int64_t> built{0}, cached{0};

std::string Options() {
  const char* given = std::getenv(kOptionsVariable);
  return given ? given : "";
}

std::string Key(const Facts& facts, const std::string& options, const std::string& source) {
  std::string key;
  for (const std::string& part : {facts.platform, facts.name, facts.version, facts.driver, options}) key += part + "\n";
  return key + source;
}

std::string EndOfLog(cl_program program, const Device& device) {
  size_t size = 0;
  cl_int code = Cl().clGetProgramBuildInfo(program, device.id(), CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
  std::string log(code == CL_SUCCESS ? size : 0, '\0');
  Cl().clGetProgramBuildInfo(program, device.id(), CL_PROGRAM_BUILD_LOG, log.size(), log.data(), nullptr);
  log.resize(log.find_last_not_of(std::string(" \n\0", 3)) + 1);
  if (log.empty()) return "the driver gives no log";
  return "the log ends with\n" + (log.size() > kMostOfLog ? "... " + log.substr(log.size() - kMostOfLog) : log);
}

cl_int Build(cl_program program, const Device& device, const std::string& options) {
  cl_device_id id = device.id();
  return Cl().clBuildProgram(program, 1, &id, options.c_str(), nullptr, nullptr);
}

/*! \brief Return a program from the cache, or null if it is not there or the driver does not take it. */
cl_program FromBinary(Device* device, const std::string& binary, const std::string& options) {
  if (binary.empty()) return nullptr;
  cl_device_id id = device->id();
  size_t size = binary.size();
  const unsigned char* data = reinterpret_cast<const unsigned char*>(binary.data());
  cl_int code = CL_SUCCESS, status = CL_SUCCESS;
  cl_program program =
      Cl().clCreateProgramWithBinary(device->Context(), 1, &id, &size, &data, &status, &code);
  if (code != CL_SUCCESS) return nullptr;
  if (status == CL_SUCCESS && Build(program, *device, options) == CL_SUCCESS) return program;
  Cl().clReleaseProgram(program);
  return nullptr;
}

cl_program FromSource(Device* device, const std::string& source, const std::string& options,
                      const std::string& wanted) {
  const char* text = source.c_str();
  size_t size = source.size();
  cl_int code = CL_SUCCESS;
  cl_program program = Cl().clCreateProgramWithSource(device->Context(), 1, &text, &size, &code);
  Check(code, "kernel " + wanted + ": taking its source");
  code = Build(program, *device, options);
  if (code == CL_SUCCESS) return program;
  std::string log = EndOfLog(program, *device);
  Cl().clReleaseProgram(program);
  TVM_FFI_THROW(RuntimeError) << "OpenCL, kernel " << wanted << ": " << device->facts().name << " cannot build it: "
                              << InWords(code) << "; " << log;
}

/*! \brief Return a program's binary, or nothing if the driver has none. */
std::string Binary(cl_program program) {
  size_t size = 0;
  if (Cl().clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, nullptr) != CL_SUCCESS) return "";
  std::string binary(size, '\0');
  unsigned char* data = reinterpret_cast<unsigned char*>(binary.data());
  if (Cl().clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, nullptr) != CL_SUCCESS) return "";
  return binary;
}

/*! \brief Tell whether a driver keeps programs on disk by itself. PoCL does; asked for a binary, it would build all of
 *  a program's kernels at once, 0.2 s each. */
bool KeepsPrograms(const Facts& facts) { return facts.version.find("PoCL") != std::string::npos; }

}  // namespace

cl_program MakeProgram(Device* device, const std::string& source, const std::string& wanted) {
  std::string folder = CacheFolder(KeepsPrograms(device->facts()));
  std::string options = Options(), key = Key(device->facts(), options, source);
  if (cl_program program = FromBinary(device, ReadCached(folder, key), options)) {
    ++cached;
    return program;
  }
  cl_program program = FromSource(device, source, options, wanted);
  ++built;
  if (!folder.empty()) WriteCached(folder, key, Binary(program));
  return program;
}

ProgramsMade Made() { return {built, cached}; }

}  // namespace deeprebirth::opencl
