/*! \file device.h
 *  What the device says of itself.
 */
#pragma once

#include <string>

namespace deeprebirth {

/*! \brief Return the number of cores this process may use: affinity mask and cgroup quota, at least 1. */
int CoreCount();

/*! \brief Return processor, system, cores, threads and whether it is emulated, as `tuning/devices/facts.py` reads
 *  them: one line of JSON. */
std::string DeviceFacts(int threads);

/*! \brief Return what tells one kind of device from another, as `targets/recognise.py` reads it: one line of JSON. */
std::string DeviceTraits();

}  // namespace deeprebirth
