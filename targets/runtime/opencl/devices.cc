#include "devices.h"

#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/c_env_api.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <exception>

#include "advice.h"
#include "errors.h"

namespace deeprebirth::opencl {
namespace {

std::vector<cl_platform_id> Platforms() {
  cl_uint count = 0;
  if (Cl().clGetPlatformIDs(0, nullptr, &count) != CL_SUCCESS) return {};
  std::vector<cl_platform_id> platforms(count);
  Check(Cl().clGetPlatformIDs(count, platforms.data(), nullptr), "listing platforms");
  return platforms;
}

std::vector<cl_device_id> DevicesOf(cl_platform_id platform) {
  cl_uint count = 0;
  if (Cl().clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS) return {};
  std::vector<cl_device_id> ids(count);
  Check(Cl().clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, count, ids.data(), nullptr), "listing devices");
  return ids;
}

std::vector<std::unique_ptr<Device>> List() {
  std::vector<std::unique_ptr<Device>> devices;
  for (cl_platform_id platform : Platforms()) {
    for (cl_device_id id : DevicesOf(platform)) devices.push_back(std::make_unique<Device>(platform, id));
  }
  if (devices.empty()) TVM_FFI_THROW(RuntimeError) << "OpenCL has no device here: " << HowToGetADriver();
  std::stable_partition(devices.begin(), devices.end(), [](const auto& each) { return each->facts().type == "gpu"; });
  return devices;
}

std::string Small(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char letter) { return std::tolower(letter); });
  return text;
}

bool Contains(const std::string& text, const std::string& part) {
  return Small(text).find(Small(part)) != std::string::npos;
}

bool IsNumber(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char letter) { return std::isdigit(letter); });
}

/*! \brief Return the place of the device that is wanted, or the number of devices if it is not there. A number is a
 *  place, also where there is a name with it. */
size_t Find(const std::string& wanted) {
  const auto& devices = Listed();
  size_t place = 0;
  for (const auto& each : devices) {
    bool named = Contains(each->facts().name, wanted) || Contains(each->facts().platform, wanted);
    if (IsNumber(wanted) ? wanted == std::to_string(place) : named) break;
    ++place;
  }
  return place;
}

std::string InOneLine() {
  std::string line;
  for (size_t place = 0; place < Listed().size(); ++place) {
    const Facts& facts = Listed()[place]->facts();
    line += (place ? ", " : "") + std::to_string(place) + ": " + facts.name + " (" + facts.platform + ")";
  }
  return line;
}

size_t Choose() {
  const char* given = std::getenv(kDeviceVariable);
  std::string wanted = given ? given : "";
  if (wanted.empty()) return 0;
  size_t place = Find(wanted);
  if (place == Listed().size()) {
    TVM_FFI_THROW(ValueError) << "no OpenCL device is " << wanted << " (" << kDeviceVariable << "); choose from "
                              << InOneLine();
  }
  return place;
}

}  // namespace

const std::vector<std::unique_ptr<Device>>& Listed() {
  static const auto& devices = *new std::vector<std::unique_ptr<Device>>(List());
  return devices;
}

size_t Chosen() {
  static const size_t place = Choose();
  return place;
}

int Count() {
  try {
    Chosen();
    return static_cast<int>(Listed().size());
  } catch (const std::exception&) {
    return 0;
  }
}

Device& At(int number) {
  size_t chosen = Chosen(), place = static_cast<size_t>(number);
  if (number < 0 || place >= Listed().size()) {
    TVM_FFI_THROW(ValueError) << "there is no OpenCL device " << number << ": there are " << Listed().size();
  }
  if (place == 0) return *Listed()[chosen];
  return *Listed()[place <= chosen ? place - 1 : place];
}

cl_command_queue QueueOf(int number, void* stream) {
  if (stream == nullptr) stream = TVMFFIEnvGetStream(kDLOpenCL, number);
  return stream ? static_cast<cl_command_queue>(stream) : At(number).Queue();
}

}  // namespace deeprebirth::opencl
