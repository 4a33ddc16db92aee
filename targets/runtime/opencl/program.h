/*! \file program.h
 *  A program built for a device, from the cache or from its source.
 */
#pragma once

#include <string>

#include "device.h"

namespace deeprebirth::opencl {

/*! \brief How programs came to be, since the process began. */
struct ProgramsMade {
  int64_t built, cached;
};

/*! \brief Make a program; `wanted` is the kernel that is needed of it, for the error, which holds the log's end. */
cl_program MakeProgram(Device* device, const std::string& source, const std::string& wanted);

ProgramsMade Made();

}  // namespace deeprebirth::opencl
