/*! \file errors.h
 *  OpenCL's error codes as exceptions with their names, and in words where a user can do something.
 */
#pragma once

#include <string>

#include "driver.h"

namespace deeprebirth::opencl {

/*! \brief Return an error as `CL_OUT_OF_RESOURCES (-5)`, followed by what it means to a user. */
std::string InWords(cl_int code);

/*! \brief Throw if a code is an error; `what` says what was tried, such as "kernel conv: launching it". */
void Check(cl_int code, const std::string& what);

/*! \brief As above; a literal costs nothing if all is well. */
void Check(cl_int code, const char* what);

}  // namespace deeprebirth::opencl
