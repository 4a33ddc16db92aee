/*! \file cache.h
 *  Programs' binaries on disk, so that a kernel is built once for a device and driver.
 *
 *  A file holds what it was made from, which is compared in full, and a checksum; one that is not whole counts as not
 *  there. Whatever fails here costs time, and is no error.
 */
#pragma once

#include <string>

namespace deeprebirth::opencl {

/*! \brief Return DEEPREBIRTH_OPENCL_CACHE, or else deeprebirth/opencl in the user's folder for caches.
 *
 *  It is nothing, which stands for no cache, if the variable is empty or "off", or if `only_given` and it is not set.
 */
std::string CacheFolder(bool only_given);

/*! \brief Return what was kept under a key, or nothing. */
std::string ReadCached(const std::string& folder, const std::string& key);

/*! \brief Keep something under a key; what was not used for the longest time makes room. */
void WriteCached(const std::string& folder, const std::string& key, const std::string& binary);

}  // namespace deeprebirth::opencl
