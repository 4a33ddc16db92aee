#include "errors.h"

#include <tvm/ffi/error.h>

namespace deeprebirth::opencl {
namespace {

constexpr cl_int kPlatformNotFound = -1001;

struct Explanation {
  cl_int code;
  const char* name;
  const char* words;
};

#define DEEPREBIRTH_ERROR(NAME, WORDS) {NAME, #NAME, WORDS}

constexpr const char* kNoMemory = "the device's memory is full: free other tensors, or use a smaller batch or network";
constexpr const char* kNoResources =
    "the device is out of registers, local memory or time for it, or was reset: the schedule asks too much of it";
constexpr const char* kLost = "the device is gone or was reset by its driver: start the process again";

constexpr Explanation kExplanations[] = {
    DEEPREBIRTH_ERROR(CL_DEVICE_NOT_FOUND, ""),
    DEEPREBIRTH_ERROR(CL_DEVICE_NOT_AVAILABLE, kLost),
    DEEPREBIRTH_ERROR(CL_COMPILER_NOT_AVAILABLE, "the driver has no compiler: install the vendor's complete driver"),
    DEEPREBIRTH_ERROR(CL_MEM_OBJECT_ALLOCATION_FAILURE, kNoMemory),
    DEEPREBIRTH_ERROR(CL_OUT_OF_RESOURCES, kNoResources),
    DEEPREBIRTH_ERROR(CL_OUT_OF_HOST_MEMORY, "the host's memory is full"),
    DEEPREBIRTH_ERROR(CL_PROFILING_INFO_NOT_AVAILABLE, ""),
    DEEPREBIRTH_ERROR(CL_MEM_COPY_OVERLAP, "source and destination overlap"),
    DEEPREBIRTH_ERROR(CL_BUILD_PROGRAM_FAILURE, ""),
    DEEPREBIRTH_ERROR(CL_MAP_FAILURE, ""),
    DEEPREBIRTH_ERROR(CL_MISALIGNED_SUB_BUFFER_OFFSET, ""),
    DEEPREBIRTH_ERROR(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, "something before it failed"),
    DEEPREBIRTH_ERROR(CL_COMPILE_PROGRAM_FAILURE, ""),
    DEEPREBIRTH_ERROR(CL_LINKER_NOT_AVAILABLE, ""),
    DEEPREBIRTH_ERROR(CL_LINK_PROGRAM_FAILURE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_VALUE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_PLATFORM, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_DEVICE, kLost),
    DEEPREBIRTH_ERROR(CL_INVALID_CONTEXT, kLost),
    DEEPREBIRTH_ERROR(CL_INVALID_QUEUE_PROPERTIES, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_COMMAND_QUEUE, kLost),
    DEEPREBIRTH_ERROR(CL_INVALID_MEM_OBJECT, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_BINARY, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_BUILD_OPTIONS, "the driver does not know DEEPREBIRTH_OPENCL_OPTIONS"),
    DEEPREBIRTH_ERROR(CL_INVALID_PROGRAM, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_PROGRAM_EXECUTABLE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_KERNEL_NAME, "the source has no such kernel"),
    DEEPREBIRTH_ERROR(CL_INVALID_KERNEL_DEFINITION, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_KERNEL, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_ARG_INDEX, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_ARG_VALUE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_ARG_SIZE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_KERNEL_ARGS, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_WORK_DIMENSION, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_WORK_GROUP_SIZE, "the device cannot run work groups of this shape"),
    DEEPREBIRTH_ERROR(CL_INVALID_WORK_ITEM_SIZE, "the work group is too long in one dimension"),
    DEEPREBIRTH_ERROR(CL_INVALID_GLOBAL_OFFSET, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_EVENT_WAIT_LIST, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_EVENT, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_OPERATION, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_BUFFER_SIZE, kNoMemory),
    DEEPREBIRTH_ERROR(CL_INVALID_GLOBAL_WORK_SIZE, ""),
    DEEPREBIRTH_ERROR(CL_INVALID_PROPERTY, ""),
    {kPlatformNotFound, "CL_PLATFORM_NOT_FOUND_KHR", ""},
};

#undef DEEPREBIRTH_ERROR

}  // namespace

std::string InWords(cl_int code) {
  std::string number = " (" + std::to_string(code) + ")";
  for (const Explanation& each : kExplanations) {
    if (each.code == code) return each.name + number + (*each.words ? std::string(": ") + each.words : "");
  }
  return "OpenCL error" + number;
}

void Check(cl_int code, const std::string& what) { Check(code, what.c_str()); }

void Check(cl_int code, const char* what) {
  if (code != CL_SUCCESS) TVM_FFI_THROW(RuntimeError) << "OpenCL, " << what << ": " << InWords(code);
}

}  // namespace deeprebirth::opencl
