/*! \file server.h
 *  The device's RPC server: one session after the other, each a process of its own.
 *
 *  It lives through whatever happens: a session may crash or hang; a tracker that is gone is looked for until it is
 *  back; who connects and says nothing is let go. One thread polls for all of it, since a process is forked from it.
 */
#pragma once

#include <poll.h>

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ending.h"
#include "greeting.h"
#include "scratch.h"
#include "session.h"
#include "sockets.h"
#include "tracker.h"

namespace deeprebirth {

/*! \brief The server on a socket that listens. */
class Server {
 public:
  Server(Socket listener, Place tracker, Offer offer, int threads);

  /*! \brief Serve until SIGINT or SIGTERM comes, and leave nothing behind. */
  void Run();

 private:
  Time Wake() const;
  void ReadSignals();
  void LookAfterSession();
  void HearGreetings(const std::vector<pollfd>& polled, size_t first);
  bool Hear(Greeting* greeting, short told);
  void Welcome(Greeting* greeting);
  std::string AnswerTo(const std::string& key) const;
  void Begin(Greeting* greeting, const std::string& match_key);
  void Invite();
  std::vector<int> OwnDescriptors() const;

  Socket listener_;
  Socket signals_;
  Offer offer_;
  Tracker tracker_;
  int threads_;
  ServerFolder folder_;
  std::list<Greeting> greetings_;
  std::unique_ptr<Session> session_;
  int sessions_ = 0;
  std::deque<std::pair<std::string, Ending>> endings_;
  bool told_to_end_ = false;
};

}  // namespace deeprebirth
