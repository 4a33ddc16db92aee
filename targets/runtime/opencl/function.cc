#include "function.h"

#include <tvm/ffi/error.h>

#include "current.h"
#include "devices.h"
#include "memory.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

/*! \brief Read a launch parameter: "blockIdx.y" is the number of work groups in dimension 1. */
Axis AxisOf(const std::string& parameter, const std::string& kernel) {
  bool groups = parameter.rfind("blockIdx.", 0) == 0, items = parameter.rfind("threadIdx.", 0) == 0;
  int dimension = parameter.empty() ? -1 : parameter.back() - 'x';
  if ((!groups && !items) || dimension < 0 || dimension > 2) {
    TVM_FFI_THROW(ValueError) << "OpenCL, kernel " << kernel << ": it is launched with " << parameter
                              << ", which OpenCL does not know: build it for target opencl";
  }
  return {groups, dimension};
}

}  // namespace

Function::Function(const Signature& signature, Programs* programs) : signature_(signature), programs_(programs) {
  for (const std::string& each : signature.launch) axes_.push_back(AxisOf(each, signature.kernel));
}

void Function::Call(ffi::PackedArgs arguments) {
  size_t wanted = signature_.arguments.size() + axes_.size();
  if (static_cast<size_t>(arguments.size()) != wanted) {
    TVM_FFI_THROW(ValueError) << "OpenCL, kernel " << signature_.kernel << ": it takes " << wanted
                              << " arguments with its launch parameters, and " << arguments.size() << " are given";
  }
  int device = DeviceOf(arguments);
  Shape shape = ShapeOf(arguments);
  if (!shape.IsEmpty()) On(device).Launch(arguments, shape, device, QueueOf(device));
}

int Function::DeviceOf(ffi::PackedArgs arguments) const {
  for (size_t i = 0; i < signature_.arguments.size(); ++i) {
    if (signature_.arguments[i].code != kDLOpaqueHandle) continue;
    if (const void* data = DataOf(arguments[i])) return Find(data).device;
  }
  return CurrentDevice();
}

Shape Function::ShapeOf(ffi::PackedArgs arguments) const {
  Shape shape;
  for (size_t i = 0; i < axes_.size(); ++i) {
    int64_t size = arguments[signature_.arguments.size() + i].cast<int64_t>();
    size_t* sizes = axes_[i].groups ? shape.groups : shape.items;
    sizes[axes_[i].dimension] = size < 0 ? 0 : static_cast<size_t>(size);
  }
  return shape;
}

Kernel& Function::On(int device) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Kernel>& kernel = kernels_[device];
  if (!kernel) {
    cl_program program = programs_->On(device, signature_.kernel);
    kernel = std::make_unique<Kernel>(At(device), program, signature_);
  }
  return *kernel;
}

}  // namespace deeprebirth::opencl
