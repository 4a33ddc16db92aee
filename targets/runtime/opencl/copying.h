/*! \file copying.h
 *  Copies between the host and devices, and between devices.
 */
#pragma once

#include <cstddef>

#include "driver.h"

namespace deeprebirth::opencl {

/*! \brief Bytes of an allocation, from an offset on. */
struct Place {
  const void* data;
  size_t offset;
};

/*! \brief Copy to the host, which has the bytes when this returns. */
void CopyToHost(Place from, void* to, size_t bytes, cl_command_queue queue);

/*! \brief Copy from the host, which may change the bytes when this returns. */
void CopyFromHost(const void* from, Place to, size_t bytes, cl_command_queue queue);

/*! \brief Copy between two allocations; on one device this is queued, between two it goes through the host. */
void CopyOnDevices(Place from, Place to, size_t bytes, void* stream);

}  // namespace deeprebirth::opencl
