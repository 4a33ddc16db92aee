/*! \file clock.h
 *  Points in time on a clock that is never set.
 */
#pragma once

#include <algorithm>
#include <chrono>

namespace deeprebirth {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

constexpr Time kNever = Time::max();

/*! \brief Return the time in so many seconds; numbers too large for the clock are never. */
inline Time In(double seconds) {
  constexpr double kLongest = 1e9;
  if (!(seconds < kLongest)) return kNever;
  return Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(std::max(seconds, 0.0) * 1e3));
}

}  // namespace deeprebirth
