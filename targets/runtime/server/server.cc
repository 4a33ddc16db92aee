#include "server.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <climits>

#include "log.h"
#include "wire.h"

namespace deeprebirth {
namespace {

constexpr size_t kEndingsKept = 64;
constexpr size_t kMostGreetings = 64;

/*! \brief Return a file descriptor that tells of signals, which do nothing else from now on. */
Socket Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int number : {SIGCHLD, SIGINT, SIGTERM}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return Socket(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
}

int MillisecondsUntil(Time time) {
  if (time == kNever) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

}  // namespace

Server::Server(Socket listener, Place tracker, Offer offer, int threads)
    : listener_(std::move(listener)),
      signals_(Signals()),
      offer_(offer),
      tracker_(std::move(tracker), std::move(offer)),
      threads_(threads) {}

void Server::Run() {
  while (!told_to_end_) {
    int listening = greetings_.size() < kMostGreetings ? listener_.fd() : -1;
    std::vector<pollfd> polled = {{listening, POLLIN, 0}, {signals_.fd(), POLLIN, 0}, tracker_.Polled()};
    size_t first = polled.size();
    for (const Greeting& each : greetings_) polled.push_back({each.fd(), POLLIN, 0});
    poll(polled.data(), polled.size(), MillisecondsUntil(Wake()));
    if (polled[1].revents) ReadSignals();
    LookAfterSession();
    tracker_.Step(polled[2].revents);
    HearGreetings(polled, first);
    if (polled[0].revents) Invite();
  }
}

Time Server::Wake() const {
  Time wake = tracker_.wake();
  if (session_) wake = std::min(wake, session_->deadline());
  for (const Greeting& each : greetings_) wake = std::min(wake, each.deadline());
  return wake;
}

void Server::ReadSignals() {
  signalfd_siginfo told;
  while (read(signals_.fd(), &told, sizeof told) == sizeof told) {
    if (told.ssi_signo != SIGCHLD) told_to_end_ = true;
  }
}

void Server::LookAfterSession() {
  if (!session_) return;
  Ending ending{sessions_};
  if (auto status = session_->Ended()) {
    ending.status = *status;
  } else if (Clock::now() >= session_->deadline()) {
    ending.late = true;
    ending.status = session_->EndLate();
  } else {
    return;
  }
  endings_.emplace_back(session_->match_key(), ending);
  if (endings_.size() > kEndingsKept) endings_.pop_front();
  Say("session " + std::to_string(sessions_) + ": " + ending.InWords());
  session_.reset();
  tracker_.SetBusy(false);
}

void Server::HearGreetings(const std::vector<pollfd>& polled, size_t first) {
  size_t at = first;
  for (auto each = greetings_.begin(); each != greetings_.end();) {
    each = Hear(&*each, polled[at++].revents) ? greetings_.erase(each) : std::next(each);
  }
}

/*! \brief Hear what a client says; return whether nothing more is to be heard. */
bool Server::Hear(Greeting* greeting, short told) {
  try {
    if (told && greeting->Read()) {
      Welcome(greeting);
      return true;
    }
    if (Clock::now() >= greeting->deadline()) throw Away("it said nothing");
    return false;
  } catch (const std::exception& error) {
    Say("a connection from " + greeting->client() + " failed: " + error.what());
    return true;
  }
}

/*! \brief Serve a client's session if the tracker gave it the device. */
void Server::Welcome(Greeting* greeting) {
  std::string key = greeting->Key();
  std::string client = kClient;
  std::string match_key = key.rfind(client, 0) == 0 ? key.substr(client.size()) : "";
  if (!session_ && tracker_.Admits(match_key)) {
    Begin(greeting, match_key);
  } else {
    greeting->TakeConnection().Send(AnswerTo(match_key));
  }
}

/*! \brief Tell how a session ended, if that is what is asked; otherwise the key is one of another time. */
std::string Server::AnswerTo(const std::string& key) const {
  for (const auto& [match_key, ending] : endings_) {
    if (key == kEnded + match_key) return Number(kRpcSuccess) + Text(ending.ToJson());
  }
  return Number(kRpcMismatch);
}

void Server::Begin(Greeting* greeting, const std::string& match_key) {
  double seconds = greeting->TimeLimit();
  std::string last = endings_.empty() ? "null" : endings_.back().second.ToJson();
  Socket connection = greeting->TakeConnection();
  SessionOrder order{match_key, seconds, folder_.path(), last, threads_, OwnDescriptors()};
  connection.Send(Number(kRpcSuccess) + Text(kServer + offer_.key));
  tracker_.SetBusy(true);
  ++sessions_;
  Say("session " + std::to_string(sessions_) + " of " + greeting->client());
  try {
    session_ = std::make_unique<Session>(std::move(connection), order);
  } catch (...) {
    tracker_.SetBusy(false);
    throw;
  }
}

void Server::Invite() {
  Place client;
  Socket connection = Accept(listener_, &client);
  if (connection.fd() >= 0) greetings_.emplace_back(std::move(connection), client.host);
}

/*! \brief Return what a session's process closes. */
std::vector<int> Server::OwnDescriptors() const {
  std::vector<int> own = {listener_.fd(), signals_.fd()};
  if (tracker_.fd() >= 0) own.push_back(tracker_.fd());
  for (const Greeting& each : greetings_) {
    if (each.fd() >= 0) own.push_back(each.fd());
  }
  return own;
}

}  // namespace deeprebirth
