/*! \file memory.h
 *  Buffers on devices. What TVM holds as a tensor's data is the address of an `Allocation`.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver.h"

namespace deeprebirth::opencl {

struct Allocation {
  cl_mem buffer;
  size_t bytes;
  int device;
};

/*! \brief What lives at the moment. */
struct MemoryInUse {
  int64_t buffers, bytes;
};

/*! \brief Make a buffer; throws, with both sizes, if the device has no room for it. */
Allocation* Allocate(int device, size_t bytes);

/*! \brief Give a buffer back; the driver keeps it until all commands that use it have ended. */
void Free(void* data);

/*! \brief Return the allocation that a tensor's data is; throws if it is none, such as a host's address. */
Allocation Find(const void* data);

MemoryInUse InUse();

}  // namespace deeprebirth::opencl
