/*! \file devices.h
 *  All devices of all platforms, and which of them is device 0.
 */
#pragma once

#include <tvm/ffi/device.h>

#include <memory>
#include <vector>

#include "device.h"

namespace deeprebirth::opencl {

constexpr const char* kDeviceVariable = "DEEPREBIRTH_OPENCL_DEVICE";

/*! \brief Return all devices, GPUs first; throws if there is none, and as `Cl` does. */
const std::vector<std::unique_ptr<Device>>& Listed();

/*! \brief Return the place in the list of the device that is device 0.
 *
 *  That is the one which DEEPREBIRTH_OPENCL_DEVICE chooses by its place or by a part of its name or its platform's,
 *  in small or capital letters, or else the first. Throws, with the list, if it chooses none.
 */
size_t Chosen();

/*! \brief Return the number of devices, 0 where OpenCL cannot be used or none was chosen; never throws. */
int Count();

/*! \brief Return a device by TVM's number: the chosen one is 0, and the others follow in the list's order. */
Device& At(int number);

/*! \brief Return the queue of a stream of TVM's, or of this thread's stream on the device, or the device's own. */
cl_command_queue QueueOf(int number, void* stream = nullptr);

}  // namespace deeprebirth::opencl
