#include "tracker.h"

#include <cmath>

#include "log.h"
#include "wire.h"

namespace deeprebirth {
namespace {

constexpr double kAnswerSeconds = 10;
constexpr double kCheckSeconds = 2;
constexpr double kShortestDelay = 0.1;
constexpr double kLongestDelay = 5;
constexpr int kUnusedChecks = 3;

std::string Message(TrackerCode code, const std::string& rest) {
  return Text("[" + std::to_string(static_cast<int>(code)) + rest + "]");
}

}  // namespace

Tracker::Tracker(Place place, Offer offer)
    : place_(std::move(place)), offer_(std::move(offer)), delay_(kShortestDelay) {}

pollfd Tracker::Polled() const {
  return {socket_.fd(), static_cast<short>(state_ == State::kConnecting ? POLLOUT : POLLIN), 0};
}

void Tracker::Step(short told) {
  try {
    Proceed(told);
  } catch (const Away& error) {
    Lose(error.what());
  }
}

void Tracker::SetBusy(bool busy) {
  busy_ = busy;
  if (busy) match_key_.clear();
  if (state_ == State::kRegistered) wake_ = Clock::now();
}

void Tracker::Proceed(short told) {
  bool due = Clock::now() >= wake_;
  if (state_ == State::kAway) {
    if (due) Begin();
    return;
  }
  if (state_ == State::kConnecting && told) {
    RequireConnected(socket_);
    Ask(State::kGreeting, Number(kTrackerMagic));
    return;
  }
  if (told) socket_.Receive(&data_, kLongestMessage);
  for (std::string answer; TakeAnswer(&answer);) Answered(answer);
  if (!due || Clock::now() < wake_) return;
  if (state_ != State::kRegistered) throw Away("no answer");
  if (!match_key_.empty()) {
    Ask(State::kAskingPending, Message(TrackerCode::kGetPendingMatchKeys, ""));
  } else if (!busy_) {
    Put();
  } else {
    Rest();
  }
}

void Tracker::Begin() {
  socket_ = Connect(place_);
  data_.clear();
  state_ = State::kConnecting;
  wake_ = In(kAnswerSeconds);
}

/*! An offer that was taken by a client that does not come is made anew. */
void Tracker::Answered(const std::string& answer) {
  switch (state_) {
    case State::kGreeting:
      Ask(State::kRegistering,
          Message(TrackerCode::kUpdateInfo, ", {\"key\": " + Quoted(kServer + offer_.key) + ", \"addr\": [" +
                                                HostAsJson() + ", " + std::to_string(offer_.port) + "]}"));
      return;
    case State::kRegistering:
      Say("registered as " + offer_.key + " at the tracker " + place_.host + ":" + std::to_string(place_.port));
      delay_ = kShortestDelay;
      told_away_ = false;
      match_key_.clear();
      if (busy_) Rest();
      else Put();
      return;
    case State::kAskingPending: {
      std::string ours = match_key_.substr(match_key_.rfind(':') + 1) + "\"";
      unused_ = answer.find(ours) != std::string::npos ? 0 : unused_ + 1;
      if (unused_ >= kUnusedChecks && !busy_) Put();
      else Rest();
      return;
    }
    case State::kOffering:
      Rest();
      return;
    default:
      throw Away("it says what it was not asked");
  }
}

void Tracker::Ask(State state, const std::string& message) {
  socket_.Send(message);
  state_ = state;
  wake_ = In(kAnswerSeconds);
}

void Tracker::Put() {
  match_key_ = offer_.key + ":0." + std::to_string(random_());
  unused_ = 0;
  Ask(State::kOffering, Message(TrackerCode::kPut, ", " + Quoted(offer_.key) + ", [" + std::to_string(offer_.port) +
                                                       ", " + Quoted(match_key_) + "], " + HostAsJson()));
}

/*! Nothing to ask until some time passed, or the device became free while another question was open. */
void Tracker::Rest() {
  state_ = State::kRegistered;
  wake_ = match_key_.empty() && !busy_ ? Clock::now() : In(kCheckSeconds);
}

void Tracker::Lose(const std::string& reason) {
  if (!told_away_) {
    Say("the tracker " + place_.host + ":" + std::to_string(place_.port) + " is not there (" + reason +
        "): looking for it");
  }
  told_away_ = true;
  socket_.Close();
  match_key_.clear();
  state_ = State::kAway;
  wake_ = In(delay_);
  delay_ = std::min(2 * delay_, kLongestDelay);
}

/*! \brief Take a whole answer from what was received; the greeting's is a bare number. */
bool Tracker::TakeAnswer(std::string* answer) {
  if (data_.size() < 4) return false;
  int32_t first = AsNumber(data_);
  if (state_ == State::kGreeting) {
    if (first != kTrackerMagic) throw Away("what answers there is no tracker");
    data_.erase(0, 4);
    return true;
  }
  if (first <= 0 || first > kLongestMessage) throw Away("what answers there is no tracker");
  size_t size = 4 + static_cast<size_t>(first);
  if (data_.size() < size) return false;
  *answer = data_.substr(4, size - 4);
  data_.erase(0, size);
  return true;
}

std::string Tracker::HostAsJson() const { return offer_.host.empty() ? "null" : Quoted(offer_.host); }

}  // namespace deeprebirth
