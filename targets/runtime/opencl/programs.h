/*! \file programs.h
 *  A source's programs, one for each device that needs it.
 */
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "driver.h"

namespace deeprebirth::opencl {

class Programs {
 public:
  explicit Programs(const std::string& source) : source_(source) {}
  ~Programs();
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;

  /*! \brief Return the program for a device, built if it has to be; `wanted` is the kernel it is needed for. */
  cl_program On(int device, const std::string& wanted);

 private:
  const std::string& source_;
  std::mutex mutex_;
  std::map<int, cl_program> built_;
};

}  // namespace deeprebirth::opencl
