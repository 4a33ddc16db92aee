/*! \file current.h
 *  The device that this thread launches kernels on.
 */
#pragma once

namespace deeprebirth::opencl {

void SetCurrentDevice(int number);
int CurrentDevice();

}  // namespace deeprebirth::opencl
