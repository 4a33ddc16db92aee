/*! \file wire.h
 *  TVM's words on the wire, as `tuning/devices/protocol.py` has them.
 *
 *  A client greets a server with `[kRpcMagic, length, "client:" + match key + options]`. With the tracker every
 *  message is a length and then JSON.
 */
#pragma once

#include <cstdint>
#include <string>

namespace deeprebirth {

constexpr int32_t kRpcMagic = 0xFF271;
constexpr int32_t kRpcSuccess = kRpcMagic;
constexpr int32_t kRpcMismatch = kRpcMagic + 2;
constexpr int32_t kTrackerMagic = 0x2F271;
constexpr int32_t kLongestKey = 4096;
constexpr int32_t kLongestMessage = 1 << 20;

constexpr const char* kClient = "client:";
constexpr const char* kServer = "server:";
/*! \brief Before the match key of a session: its client asks how that session ended. */
constexpr const char* kEnded = "deeprebirth.ended:";

/*! \brief The first element of a message to the tracker. */
enum class TrackerCode { kPut = 3, kUpdateInfo = 5, kGetPendingMatchKeys = 7 };

/*! \brief Encode a magic number or a length: four bytes, little-endian. */
std::string Number(int32_t value);

/*! \brief Decode the number at a place in data that is long enough. */
int32_t AsNumber(const std::string& data, size_t place = 0);

/*! \brief Encode a key or a message: its length and its letters. */
std::string Text(const std::string& letters);

/*! \brief Write a string as JSON does, with its quotes. */
std::string Quoted(const std::string& letters);

}  // namespace deeprebirth
