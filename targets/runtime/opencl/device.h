/*! \file device.h
 *  One device of OpenCL: what it is, and the context and queue that are made when it is first used.
 */
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "driver.h"

namespace deeprebirth::opencl {

/*! \brief What a driver says of a device. Sizes are in bytes, the clock is in MHz. */
struct Facts {
  std::string name, platform, version, driver, type;
  cl_uint compute_units, clock;
  size_t work_group;
  std::vector<size_t> work_items;
  cl_ulong local_memory, global_memory, largest_buffer, cache;
  bool float16;
};

class Device {
 public:
  Device(cl_platform_id platform, cl_device_id id);

  const Facts& facts() const { return facts_; }
  cl_device_id id() const { return id_; }

  cl_context Context();
  /*! \brief Return the queue of those that have no stream of their own. */
  cl_command_queue Queue();
  /*! \brief Make another queue. */
  cl_command_queue NewQueue();

 private:
  cl_device_id id_;
  Facts facts_;
  std::mutex mutex_;
  cl_context context_ = nullptr;
  cl_command_queue queue_ = nullptr;
};

}  // namespace deeprebirth::opencl
