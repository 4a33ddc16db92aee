/*! \file contents.h
 *  What a module of OpenCL kernels holds, and its form as bytes, which is that of TVM's compiler.
 */
#pragma once

#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace deeprebirth::opencl {

/*! \brief How a kernel is called: its arguments, then a number for each launch parameter, such as "blockIdx.x". */
struct Signature {
  std::string kernel;
  std::vector<DLDataType> arguments;
  std::vector<std::string> launch;
  std::vector<int32_t> extra;
};

struct Contents {
  std::string format;
  std::vector<std::pair<std::string, Signature>> functions;
  std::string source;
};

/*! \brief Read a module's bytes; throws if they are cut off. */
Contents Read(const tvm::ffi::Bytes& bytes);

/*! \brief Write what `Read` reads. */
tvm::ffi::Bytes Write(const Contents& contents);

/*! \brief Take the functions that the compiler describes, each an object of its type runtime.FunctionInfo. */
std::vector<std::pair<std::string, Signature>> Described(const tvm::ffi::Map<tvm::ffi::String, tvm::ffi::Any>& infos);

}  // namespace deeprebirth::opencl
