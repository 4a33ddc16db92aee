/*! \file kernel.h
 *  A kernel on a device: sets its arguments and launches it.
 */
#pragma once

#include <tvm/ffi/function.h>

#include <mutex>
#include <string>

#include "contents.h"
#include "device.h"

namespace deeprebirth::opencl {

/*! \brief How many work groups a kernel is launched with, and how many work items each has. */
struct Shape {
  size_t groups[3] = {1, 1, 1}, items[3] = {1, 1, 1};

  bool IsEmpty() const;
};

/*! \brief Return the data that an argument is or has; null if it is neither an address nor a tensor. */
const void* DataOf(const tvm::ffi::AnyView& argument);

class Kernel {
 public:
  /*! \brief Take the kernel out of a program; throws if its local memory is more than the device has. */
  Kernel(const Device& device, cl_program program, const Signature& signature);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /*! \brief Launch it; throws, with the limit that is broken, if the device does not allow the shape. */
  void Launch(tvm::ffi::PackedArgs arguments, const Shape& shape, int device, cl_command_queue queue);

 private:
  void CheckLocalMemory() const;
  void CheckShape(const Shape& shape) const;
  void Set(cl_uint index, const tvm::ffi::AnyView& value, int device);
  cl_mem BufferOf(cl_uint index, const tvm::ffi::AnyView& value, int device) const;
  [[noreturn]] void Refuse(const std::string& reason) const;
  [[noreturn]] void Refuse(cl_uint index, const std::string& wanted, const tvm::ffi::AnyView& value) const;

  const Device& device_;
  const Signature& signature_;
  std::mutex mutex_;
  cl_kernel kernel_;
  size_t work_group_;
};

/*! \brief Return how many kernels were launched since the process began. */
int64_t Launched();

}  // namespace deeprebirth::opencl
