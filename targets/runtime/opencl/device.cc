#include "device.h"

#include "errors.h"

namespace deeprebirth::opencl {
namespace {

template <typename T>
T Get(cl_device_id id, cl_device_info what) {
  T value{};
  Check(Cl().clGetDeviceInfo(id, what, sizeof value, &value, nullptr), "asking a device what it is");
  return value;
}

std::string Trimmed(std::string text) {
  text.resize(text.find_last_not_of(std::string(" \n\0", 3)) + 1);
  return text;
}

std::string GetText(cl_device_id id, cl_device_info what) {
  size_t size = 0;
  Check(Cl().clGetDeviceInfo(id, what, 0, nullptr, &size), "asking a device what it is");
  std::string text(size, '\0');
  Check(Cl().clGetDeviceInfo(id, what, size, text.data(), nullptr), "asking a device what it is");
  return Trimmed(text);
}

std::string PlatformName(cl_platform_id platform) {
  size_t size = 0;
  Check(Cl().clGetPlatformInfo(platform, CL_PLATFORM_NAME, 0, nullptr, &size), "asking a platform's name");
  std::string text(size, '\0');
  Check(Cl().clGetPlatformInfo(platform, CL_PLATFORM_NAME, size, text.data(), nullptr), "asking a platform's name");
  return Trimmed(text);
}

std::string TypeName(cl_device_type type) {
  if (type & CL_DEVICE_TYPE_GPU) return "gpu";
  if (type & CL_DEVICE_TYPE_CPU) return "cpu";
  return type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator" : "custom";
}

std::vector<size_t> WorkItems(cl_device_id id) {
  std::vector<size_t> sizes(Get<cl_uint>(id, CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS));
  Check(Cl().clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizes.size() * sizeof(size_t), sizes.data(), nullptr),
        "asking a device what it is");
  sizes.resize(3, 1);
  return sizes;
}

Facts Ask(cl_platform_id platform, cl_device_id id) {
  Facts facts;
  facts.name = GetText(id, CL_DEVICE_NAME);
  facts.platform = PlatformName(platform);
  facts.version = GetText(id, CL_DEVICE_VERSION);
  facts.driver = GetText(id, CL_DRIVER_VERSION);
  facts.type = TypeName(Get<cl_device_type>(id, CL_DEVICE_TYPE));
  facts.compute_units = Get<cl_uint>(id, CL_DEVICE_MAX_COMPUTE_UNITS);
  facts.clock = Get<cl_uint>(id, CL_DEVICE_MAX_CLOCK_FREQUENCY);
  facts.work_group = Get<size_t>(id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
  facts.work_items = WorkItems(id);
  facts.local_memory = Get<cl_ulong>(id, CL_DEVICE_LOCAL_MEM_SIZE);
  facts.global_memory = Get<cl_ulong>(id, CL_DEVICE_GLOBAL_MEM_SIZE);
  facts.largest_buffer = Get<cl_ulong>(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  facts.cache = Get<cl_ulong>(id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE);
  facts.float16 = GetText(id, CL_DEVICE_EXTENSIONS).find("cl_khr_fp16") != std::string::npos;
  return facts;
}

}  // namespace

Device::Device(cl_platform_id platform, cl_device_id id) : id_(id), facts_(Ask(platform, id)) {}

cl_context Device::Context() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (context_ == nullptr) {
    cl_int code = CL_SUCCESS;
    cl_context context = Cl().clCreateContext(nullptr, 1, &id_, nullptr, nullptr, &code);
    Check(code, "opening " + facts_.name);
    context_ = context;
  }
  return context_;
}

cl_command_queue Device::Queue() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (queue_ != nullptr) return queue_;
  }
  cl_command_queue queue = NewQueue();
  std::lock_guard<std::mutex> lock(mutex_);
  if (queue_ == nullptr) {
    queue_ = queue;
  } else {
    Cl().clReleaseCommandQueue(queue);
  }
  return queue_;
}

cl_command_queue Device::NewQueue() {
  cl_int code = CL_SUCCESS;
  cl_command_queue queue = Cl().clCreateCommandQueue(Context(), id_, CL_QUEUE_PROFILING_ENABLE, &code);
  Check(code, "making a queue for " + facts_.name);
  return queue;
}

}  // namespace deeprebirth::opencl
