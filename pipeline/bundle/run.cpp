// Loads this bundle with TVM's runtime alone, runs its golden input and compares with its golden output.
//
// usage: run [BUNDLE [RUNS]]     BUNDLE: the bundle's folder, "." if not given; RUNS: how many are timed, 10
//
// Exit code 0: the outputs are the golden ones. 1: they differ, or a file is damaged or cannot be loaded.
// 2: called in a wrong way.

#include <sys/utsname.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "manifest.h"

namespace ffi = tvm::ffi;

namespace {

constexpr DLDevice kDevice{manifest::kDeviceType, 0};
constexpr DLDevice kHost{kDLCPU, 0};
constexpr int kPooledAllocator = 2;
// TVM's numbers of what a device can be asked.
constexpr int kExists = 0, kVersion = 4, kName = 5;
constexpr long kMostRuns = 1000000;
constexpr int kWrongUse = 2;

// The checksum of zlib and PNG: polynomial 0xEDB88320, bits reflected (ISO 3309).
std::array<uint32_t, 256> Crc32Table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder >> 1) ^ (remainder & 1 ? 0xEDB88320u : 0u);
    }
    table[byte] = remainder;
  }
  return table;
}

void CheckFile(const std::string& folder, const manifest::File& file) {
  static const std::array<uint32_t, 256> table = Crc32Table();
  std::ifstream stream(folder + "/" + file.name, std::ios::binary);
  if (!stream) {
    throw std::runtime_error(std::string(file.name) + " cannot be read in " + folder +
                             ": name the bundle's folder, or copy the bundle again");
  }
  std::vector<char> buffer(1 << 16);
  uint64_t bytes = 0;
  uint32_t checksum = ~0u;
  while (stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), stream.gcount() > 0) {
    for (std::streamsize i = 0; i < stream.gcount(); ++i) {
      checksum = (checksum >> 8) ^ table[(checksum ^ static_cast<uint8_t>(buffer[i])) & 0xFF];
    }
    bytes += static_cast<uint64_t>(stream.gcount());
  }
  if (bytes != file.bytes || ~checksum != file.crc32) {
    throw std::runtime_error(std::string(file.name) +
                             " is not the file that run was built for: copy the bundle and build run again");
  }
}

ffi::Module LoadNetwork(const std::string& library) {
  ffi::Module machine = ffi::Module::LoadFromFile(library)
                            ->GetFunction("vm_load_executable")
                            .value()()
                            .cast<ffi::Module>();
  const ffi::Function initialize = machine->GetFunction("vm_initialization").value();
  const int device = kDevice.device_type, host = kHost.device_type;
  if (device == host) {
    initialize(host, 0, kPooledAllocator);
  } else {
    initialize(device, 0, kPooledAllocator, host, 0, kPooledAllocator);
  }
  return machine;
}

ffi::Any Ask(int attribute) {
  return ffi::Function::GetGlobalRequired("runtime.GetDeviceAttr")(static_cast<int>(kDevice.device_type), 0,
                                                                   attribute);
}

void CheckDevice() {
  if (!Ask(kExists).cast<bool>()) {
    throw std::runtime_error("there is no OpenCL device here: install the driver of the GPU");
  }
}

// A device works on while the program goes on.
void WaitFor(DLDevice device) {
  ffi::Function::GetGlobalRequired("runtime.Device_StreamSync")(device, int64_t{0});
}

ffi::Tensor On(DLDevice device, const ffi::Tensor& tensor) {
  if (tensor.device().device_type == device.device_type) return tensor;
  const ffi::Function allocate = ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
  const auto copy = allocate(ffi::Shape(tensor.shape()), tensor.dtype(), device, nullptr).cast<ffi::Tensor>();
  ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyFromTo")(tensor, copy);
  WaitFor(kDevice);
  return copy;
}

std::map<std::string, ffi::Tensor> LoadTensors(const std::string& path) {
  const ffi::Function load = ffi::Function::GetGlobalRequired("runtime.LoadParamsFromFile");
  std::map<std::string, ffi::Tensor> tensors;
  for (const auto& [name, tensor] : load(path).cast<ffi::Map<ffi::String, ffi::Tensor>>()) {
    tensors.emplace(std::string(name), tensor);
  }
  return tensors;
}

// The nearest float16, the even one of two; no weight is too large for it.
uint16_t FloatToHalf(float value) {
  const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
  const double units = std::nearbyint(std::ldexp(std::abs(double{value}), 10 - exponent));
  const int magnitude = static_cast<int>(units) + 1024 * (exponent + 14);
  return static_cast<uint16_t>(magnitude | (std::signbit(value) ? 0x8000 : 0));
}

template <typename Element>
Element* Elements(const ffi::Tensor& tensor) {
  return reinterpret_cast<Element*>(static_cast<char*>(tensor.data_ptr()) + tensor.byte_offset());
}

// Goes through all places of a shape in order, and tells where in the scales the number there has its own: an
// axis of the scales is as long as the numbers' axis, or 1.
class Walk {
 public:
  Walk(const ffi::Tensor& numbers, const ffi::Tensor& scales)
      : shape_(numbers.shape().begin(), numbers.shape().end()),
        scales_(scales.shape().begin(), scales.shape().end()),
        index_(shape_.size()) {}

  size_t Scale() const {
    int64_t place = 0;
    for (size_t axis = 0; axis < index_.size(); ++axis) {
      place = place * scales_[axis] + (scales_[axis] > 1 ? index_[axis] : 0);
    }
    return static_cast<size_t>(place);
  }

  void Next() {
    for (size_t axis = index_.size(); axis-- > 0 && ++index_[axis] == shape_[axis];) index_[axis] = 0;
  }

 private:
  const std::vector<int64_t> shape_, scales_;
  std::vector<int64_t> index_;
};

ffi::Tensor Multiplied(const ffi::Tensor& numbers, const ffi::Tensor& scales, bool half) {
  const ffi::Function allocate = ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
  const DLDataType type{kDLFloat, static_cast<uint8_t>(half ? 16 : 32), 1};
  const auto weights = allocate(ffi::Shape(numbers.shape()), type, kHost, nullptr).cast<ffi::Tensor>();
  const int64_t count = numbers.numel();
  Walk walk(numbers, scales);
  for (int64_t i = 0; i < count; ++i, walk.Next()) {
    const float weight = Elements<int8_t>(numbers)[i] * Elements<float>(scales)[walk.Scale()];
    if (half) {
      Elements<uint16_t>(weights)[i] = FloatToHalf(weight);
    } else {
      Elements<float>(weights)[i] = weight;
    }
  }
  return weights;
}

// NAME.float32 or NAME.float16 holds int8 numbers, NAME.scales what to multiply them with.
std::map<std::string, ffi::Tensor> LoadWeights(const std::string& path) {
  std::map<std::string, ffi::Tensor> weights;
  const std::map<std::string, ffi::Tensor> stored = LoadTensors(path);
  for (const auto& [key, tensor] : stored) {
    const size_t dot = key.find('.');
    const std::string name = key.substr(0, dot);
    if (dot == std::string::npos) {
      weights.emplace(name, tensor);
    } else if (key != name + ".scales") {
      weights.emplace(name, Multiplied(tensor, stored.at(name + ".scales"), key == name + ".float16"));
    }
  }
  return weights;
}

std::vector<ffi::Tensor> Numbered(const std::map<std::string, ffi::Tensor>& tensors, const std::string& kind,
                                  int count) {
  std::vector<ffi::Tensor> numbered;
  for (int index = 0; index < count; ++index) {
    numbered.push_back(tensors.at(kind + "_" + std::to_string(index)));
  }
  return numbered;
}

std::vector<ffi::Tensor> Outputs(const ffi::Any& result) {
  if (const auto single = result.as<ffi::Tensor>()) return {On(kHost, *single)};
  std::vector<ffi::Tensor> outputs;
  for (const ffi::Tensor& each : result.cast<ffi::Array<ffi::Tensor>>()) outputs.push_back(On(kHost, each));
  return outputs;
}

double HalfToDouble(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const int fraction = bits & 0x3FF;
  double magnitude = std::ldexp(exponent ? fraction + 1024 : fraction, std::max(exponent, 1) - 25);
  if (exponent == 0x1F) {
    magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

template <typename Element>
std::vector<double> Converted(const ffi::Tensor& tensor) {
  const auto* elements = Elements<const Element>(tensor);
  return {elements, elements + tensor.numel()};
}

std::vector<double> Values(const ffi::Tensor& tensor) {
  const DLDataType type = tensor.dtype();
  const auto is = [type](int code, int bits) { return type.code == code && type.bits == bits; };
  if (is(kDLFloat, 32)) return Converted<float>(tensor);
  if (is(kDLFloat, 64)) return Converted<double>(tensor);
  if (is(kDLInt, 8)) return Converted<int8_t>(tensor);
  if (is(kDLInt, 32)) return Converted<int32_t>(tensor);
  if (is(kDLInt, 64)) return Converted<int64_t>(tensor);
  if (is(kDLUInt, 8) || is(kDLBool, 8)) return Converted<uint8_t>(tensor);
  if (is(kDLFloat, 16)) {
    std::vector<double> values = Converted<uint16_t>(tensor);
    for (double& value : values) value = HalfToDouble(static_cast<uint16_t>(value));
    return values;
  }
  throw std::runtime_error("an output has a type that is not compared here: add it to Values in run.cpp");
}

// The largest difference, element by element; not a number if a difference is none.
double LargestDifference(const std::vector<ffi::Tensor>& computed, const std::vector<ffi::Tensor>& golden) {
  if (computed.size() != golden.size()) throw std::runtime_error("the number of outputs is another");
  double largest = 0;
  for (size_t output = 0; output < golden.size(); ++output) {
    const std::vector<double> values = Values(computed[output]);
    const std::vector<double> expected = Values(golden[output]);
    if (values.size() != expected.size()) throw std::runtime_error("an output has another size");
    for (size_t i = 0; i < values.size(); ++i) {
      const double difference = std::abs(values[i] - expected[i]);
      if (std::isnan(difference)) return difference;
      largest = std::max(largest, difference);
    }
  }
  return largest;
}

double MedianMilliseconds(const ffi::Function& network, const std::vector<ffi::AnyView>& arguments, long runs) {
  std::vector<double> times;
  for (long run = 0; run < runs; ++run) {
    ffi::Any result;
    const auto start = std::chrono::steady_clock::now();
    network.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
    WaitFor(kDevice);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    times.push_back(elapsed.count());
  }
  std::sort(times.begin(), times.end());
  return (times[(times.size() - 1) / 2] + times[times.size() / 2]) / 2;
}

std::string LinkTarget(const std::string& path) {
  std::array<char, 4096> target{};
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<size_t>(length));
}

// An emulator such as qemu-user names its guest as the process's program, but not as the thread's.
bool IsEmulated() {
  const std::string thread = LinkTarget("/proc/self/task/" + std::to_string(getpid()) + "/exe");
  return !thread.empty() && thread != LinkTarget("/proc/self/exe");
}

std::string ProcessorModel(const std::string& otherwise) {
  std::map<std::string, std::string> fields;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    fields[line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1)] = line.substr(colon + 2);
  }
  for (const char* key : {"model name", "Model", "Hardware"}) {
    if (fields.count(key)) return fields[key];
  }
  return otherwise;
}

bool Holds(std::string text, const std::string& part) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.find(part) != std::string::npos;
}

// PoCL makes an OpenCL device of the processor; only a GPU of the family that the bundle is for tells of it.
std::string MeasuredOnOpenCl() {
  utsname system{};
  uname(&system);
  const std::string name = Ask(kName).cast<std::string>(), version = Ask(kVersion).cast<std::string>();
  const size_t number = version.find(' ');
  const std::string in_words =
      (Holds(version, "pocl") ? "PoCL on " + ProcessorModel(system.machine) : name) + ", " +
      version.substr(0, version.find(' ', number + 1));
  if (Holds(name, manifest::kGpuFamily)) return in_words;
  return in_words + " in place of " + manifest::kGpu + ", emulated: says nothing about the device";
}

std::string MeasuredOn() {
  if (kDevice.device_type == kDLOpenCL) return MeasuredOnOpenCl();
  utsname system{};
  uname(&system);
  const int threads = ffi::Function::GetGlobalRequired("runtime.NumThreads")().cast<int>();
  return ProcessorModel(system.machine) + ", " + system.sysname + " " + system.machine + ", " +
         std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
         (IsEmulated() ? ", emulated: says nothing about the device" : "");
}

int Run(const std::string& folder, long runs) {
  for (const char* notice : manifest::kNotices) std::printf("notice: %s\n", notice);
  for (const manifest::File& file : {manifest::kLibrary, manifest::kWeights, manifest::kGolden}) {
    CheckFile(folder, file);
  }
  setenv("TVM_NUM_THREADS", std::to_string(manifest::kThreads).c_str(), 0);
  CheckDevice();

  const ffi::Module machine = LoadNetwork(folder + "/" + manifest::kLibrary.name);
  const ffi::Function network = machine->GetFunction("main").value();
  const auto weights = LoadWeights(folder + "/" + manifest::kWeights.name);
  const auto golden = LoadTensors(folder + "/" + manifest::kGolden.name);
  std::vector<ffi::Tensor> tensors = Numbered(golden, "input", manifest::kInputs);
  for (const auto& [name, weight] : weights) tensors.push_back(weight);
  for (ffi::Tensor& tensor : tensors) tensor = On(kDevice, tensor);
  const std::vector<ffi::AnyView> arguments(tensors.begin(), tensors.end());

  ffi::Any result;
  network.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
  const double difference =
      LargestDifference(Outputs(result), Numbered(golden, "output", manifest::kOutputs));
  const bool equal = difference <= manifest::kTolerance;
  std::printf("largest difference from the golden output: %.9g, %s %.9g\n", difference,
              equal ? "at most" : "NOT at most", manifest::kTolerance);
  if (!equal) return EXIT_FAILURE;
  std::printf("median time of %ld runs: %.6g ms on %s\n", runs,
              MedianMilliseconds(network, arguments, runs), MeasuredOn().c_str());
  return EXIT_SUCCESS;
}

extern "C" void TellIllegalInstruction(int) {
  constexpr char message[] =
      "error: this processor lacks an instruction that library.so uses: build the bundle for its own target\n";
  if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0) _exit(EXIT_FAILURE);
  _exit(EXIT_FAILURE);
}

}  // namespace

int main(int count, char** words) {
  char* end = nullptr;
  const long runs = count > 2 ? std::strtol(words[2], &end, 10) : 10;
  if (count > 3 || (end && *end) || runs < 1 || runs > kMostRuns) {
    std::fprintf(stderr, "usage: %s [BUNDLE [RUNS]], with 1 to %ld runs\n", words[0], kMostRuns);
    return kWrongUse;
  }
  std::signal(SIGILL, TellIllegalInstruction);
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  try {
    return Run(count > 1 ? words[1] : ".", runs);
  } catch (const std::exception& error) {
    const std::string message = error.what();
    std::fprintf(stderr, "error: %s\n", message.substr(0, message.find('\n')).c_str());
    return EXIT_FAILURE;
  }
}
