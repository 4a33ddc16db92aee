/*! \file tracker.h
 *  Offers the device at a tracker whenever it is free, and looks for a tracker that is gone until it is back.
 */
#pragma once

#include <poll.h>

#include <random>
#include <string>

#include "clock.h"
#include "sockets.h"

namespace deeprebirth {

/*! \brief What a tracker is told of a device. */
struct Offer {
  std::string key;
  std::string host; /*!< the address that clients get; empty if it is the one that the tracker sees */
  int port;
};

/*! \brief The connection to the tracker; it waits for nothing, but is polled and stepped. */
class Tracker {
 public:
  Tracker(Place place, Offer offer);

  /*! \brief The socket to poll and what for. */
  pollfd Polled() const;

  /*! \brief When to step at the latest. */
  Time wake() const { return wake_; }

  /*! \brief Go on, with what polling told. */
  void Step(short told);

  /*! \brief Tell whether the tracker gave a client this match key. */
  bool Admits(const std::string& match_key) const { return !match_key_.empty() && match_key == match_key_; }

  /*! \brief The device is in use from now on, or free again. */
  void SetBusy(bool busy);

  int fd() const { return socket_.fd(); }

 private:
  enum class State { kAway, kConnecting, kGreeting, kRegistering, kOffering, kAskingPending, kRegistered };

  void Proceed(short told);
  void Begin();
  void Answered(const std::string& answer);
  void Ask(State state, const std::string& message);
  void Put();
  void Rest();
  void Lose(const std::string& reason);
  bool TakeAnswer(std::string* answer);
  std::string HostAsJson() const;

  Place place_;
  Offer offer_;
  State state_ = State::kAway;
  Socket socket_;
  std::string data_;
  Time wake_ = Clock::now();
  double delay_;
  bool told_away_ = false;
  bool busy_ = false;
  std::string match_key_;
  int unused_ = 0;
  std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace deeprebirth
