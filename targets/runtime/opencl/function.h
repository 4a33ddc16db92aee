/*! \file function.h
 *  A function of a module: one kernel, taken for each device when it is first called there.
 */
#pragma once

#include <tvm/ffi/function.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "contents.h"
#include "kernel.h"
#include "programs.h"

namespace deeprebirth::opencl {

/*! \brief What a launch parameter counts: work groups or work items, in a dimension. */
struct Axis {
  bool groups;
  int dimension;
};

class Function {
 public:
  /*! \brief Throws if the function is launched in a way that OpenCL does not know. */
  Function(const Signature& signature, Programs* programs);

  /*! \brief Launch the kernel on the device that its tensors are on. */
  void Call(tvm::ffi::PackedArgs arguments);

 private:
  int DeviceOf(tvm::ffi::PackedArgs arguments) const;
  Shape ShapeOf(tvm::ffi::PackedArgs arguments) const;
  Kernel& On(int device);

  const Signature& signature_;
  Programs* programs_;
  std::vector<Axis> axes_;
  std::mutex mutex_;
  std::map<int, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace deeprebirth::opencl
