/*! \file advice.h
 *  What to do where OpenCL finds no driver or no device.
 */
#pragma once

#include <string>

namespace deeprebirth::opencl {

/*! \brief Say which package brings a driver, and which GPU this process may not open. */
std::string HowToGetADriver();

}  // namespace deeprebirth::opencl
