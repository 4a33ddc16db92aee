#include "kernel.h"

#include <CL/cl_half.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/error.h>

#include <atomic>
#include <cstring>

#include "errors.h"
#include "memory.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

std::atomic<int64_t> launched{0};

/*! \brief A number as the kernel takes it. */
struct Scalar {
  char bytes[8] = {};
  size_t size = 0;
};

template <typename T>
Scalar Bytes(T value) {
  Scalar scalar{{}, sizeof value};
  std::memcpy(scalar.bytes, &value, sizeof value);
  return scalar;
}

Scalar Float(double value, int bits) {
  switch (bits) {
    case 16:
      return Bytes<cl_half>(cl_half_from_float(static_cast<float>(value), CL_HALF_RTE));
    case 32:
      return Bytes(static_cast<float>(value));
    case 64:
      return Bytes(value);
    default:
      return {};
  }
}

Scalar Integer(int64_t value, int bits) {
  switch (bits) {
    case 1:
    case 8:
      return Bytes(static_cast<int8_t>(value));
    case 16:
      return Bytes(static_cast<int16_t>(value));
    case 32:
      return Bytes(static_cast<int32_t>(value));
    case 64:
      return Bytes(value);
    default:
      return {};
  }
}

/*! \brief Return a number in the type that the kernel has for it; of size 0 if it is no such number. */
Scalar AsScalar(const ffi::AnyView& value, DLDataType type) {
  if (type.lanes != 1) return {};
  if (type.code == kDLFloat) {
    auto number = value.try_cast<double>();
    return number ? Float(*number, type.bits) : Scalar{};
  }
  if (type.code != kDLInt && type.code != kDLUInt && type.code != kDLBool) return {};
  auto number = value.try_cast<int64_t>();
  return number ? Integer(*number, type.bits) : Scalar{};
}

std::string Dimensions(const size_t (&sizes)[3]) {
  return std::to_string(sizes[0]) + "x" + std::to_string(sizes[1]) + "x" + std::to_string(sizes[2]);
}

}  // namespace

bool Shape::IsEmpty() const {
  return groups[0] * groups[1] * groups[2] == 0 || items[0] * items[1] * items[2] == 0;
}

const void* DataOf(const ffi::AnyView& argument) {
  if (auto address = argument.as<void*>()) return *address;
  if (auto tensor = argument.try_cast<DLTensor*>()) return (*tensor)->data;
  return nullptr;
}

Kernel::Kernel(const Device& device, cl_program program, const Signature& signature)
    : device_(device), signature_(signature) {
  cl_int code = CL_SUCCESS;
  kernel_ = Cl().clCreateKernel(program, signature.kernel.c_str(), &code);
  Check(code, "kernel " + signature.kernel + ": taking it out of its program");
  code = Cl().clGetKernelWorkGroupInfo(kernel_, device.id(), CL_KERNEL_WORK_GROUP_SIZE, sizeof work_group_,
                                       &work_group_, nullptr);
  if (code != CL_SUCCESS || work_group_ == 0) work_group_ = device.facts().work_group;
  try {
    CheckLocalMemory();
  } catch (...) {
    Cl().clReleaseKernel(kernel_);
    throw;
  }
}

Kernel::~Kernel() {
  if (!IsForked()) Cl().clReleaseKernel(kernel_);
}

void Kernel::Launch(ffi::PackedArgs arguments, const Shape& shape, int device, cl_command_queue queue) {
  CheckShape(shape);
  size_t global[3];
  for (int i = 0; i < 3; ++i) global[i] = shape.groups[i] * shape.items[i];
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < signature_.arguments.size(); ++i) Set(static_cast<cl_uint>(i), arguments[i], device);
  cl_int code =
      Cl().clEnqueueNDRangeKernel(queue, kernel_, 3, nullptr, global, shape.items, 0, nullptr, nullptr);
  if (code != CL_SUCCESS) Refuse("launching it: " + InWords(code));
  ++launched;
}

void Kernel::CheckLocalMemory() const {
  cl_ulong needed = 0;
  Cl().clGetKernelWorkGroupInfo(kernel_, device_.id(), CL_KERNEL_LOCAL_MEM_SIZE, sizeof needed, &needed, nullptr);
  cl_ulong most = device_.facts().local_memory;
  if (needed > most) {
    Refuse("it needs " + std::to_string(needed) + " bytes of local memory, and " + device_.facts().name + " has " +
           std::to_string(most));
  }
}

void Kernel::CheckShape(const Shape& shape) const {
  size_t items = shape.items[0] * shape.items[1] * shape.items[2];
  if (items > work_group_) {
    Refuse("a work group of " + Dimensions(shape.items) + " = " + std::to_string(items) + " work items, and " +
           device_.facts().name + " allows " + std::to_string(work_group_) + " for it");
  }
  for (int i = 0; i < 3; ++i) {
    size_t most = device_.facts().work_items[i];
    if (shape.items[i] > most) {
      Refuse("a work group of " + Dimensions(shape.items) + " work items, and " + device_.facts().name + " allows " +
             std::to_string(most) + " in dimension " + std::to_string(i));
    }
  }
}

void Kernel::Set(cl_uint index, const ffi::AnyView& value, int device) {
  DLDataType type = signature_.arguments[index];
  cl_int code = CL_SUCCESS;
  if (type.code == kDLOpaqueHandle) {
    cl_mem buffer = BufferOf(index, value, device);
    code = Cl().clSetKernelArg(kernel_, index, sizeof buffer, &buffer);
  } else {
    Scalar scalar = AsScalar(value, type);
    if (scalar.size == 0) Refuse(index, std::string(ffi::DLDataTypeToString(type)), value);
    code = Cl().clSetKernelArg(kernel_, index, scalar.size, scalar.bytes);
  }
  if (code != CL_SUCCESS) Refuse("argument " + std::to_string(index) + ": " + InWords(code));
}

cl_mem Kernel::BufferOf(cl_uint index, const ffi::AnyView& value, int device) const {
  const void* data = DataOf(value);
  if (data == nullptr) Refuse(index, "a tensor", value);
  Allocation allocation = Find(data);
  if (allocation.device != device) Refuse("argument " + std::to_string(index) + " is a tensor of another device");
  return allocation.buffer;
}

void Kernel::Refuse(cl_uint index, const std::string& wanted, const ffi::AnyView& value) const {
  Refuse("argument " + std::to_string(index) + " has to be " + wanted + " and is " + value.GetTypeKey());
}

void Kernel::Refuse(const std::string& reason) const {
  TVM_FFI_THROW(RuntimeError) << "OpenCL, kernel " << signature_.kernel << ": " << reason;
  TVM_FFI_UNREACHABLE();
}

int64_t Launched() { return launched; }

}  // namespace deeprebirth::opencl
