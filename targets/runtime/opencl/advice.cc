#include "advice.h"

#include <glob.h>
#include <unistd.h>

#include <vector>

namespace deeprebirth::opencl {
namespace {

constexpr const char* kDeviceFiles[] = {"/dev/mali*", "/dev/kgsl-3d0", "/dev/dri/renderD*"};

std::vector<std::string> DeviceFiles() {
  std::vector<std::string> files;
  for (const char* pattern : kDeviceFiles) {
    glob_t found;
    if (glob(pattern, 0, nullptr, &found) == 0) {
      files.insert(files.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    }
    globfree(&found);
  }
  return files;
}

}  // namespace

std::string HowToGetADriver() {
  std::string advice = "install the driver of the GPU's vendor, or pocl-opencl-icd, which runs OpenCL on the CPU";
  for (const std::string& file : DeviceFiles()) {
    if (access(file.c_str(), R_OK | W_OK) == 0) continue;
    advice += "; this user may not open " + file + ": add it to the groups render and video";
  }
  return advice;
}

}  // namespace deeprebirth::opencl
