/*! \file session.h
 *  One session: a process that runs whatever its client sends, and may crash of it.
 */
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "clock.h"
#include "sockets.h"

namespace deeprebirth {

/*! \brief What a session is given to start. */
struct SessionOrder {
  std::string match_key;
  double seconds;          /*!< how long it may take; infinity for ever */
  std::string base;        /*!< where it gets a folder of its own */
  std::string last_end;    /*!< what it tells of the session before it, as JSON */
  int threads;             /*!< that measured code runs on */
  std::vector<int> closed; /*!< file descriptors that its process does not keep */
};

/*! \brief The process of a session, its folder and its connection; all end with this object. */
class Session {
 public:
  /*! \brief Fork the process; std::runtime_error if there is no room for its folder, or no process to be had. */
  Session(Socket connection, const SessionOrder& order);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Time deadline() const { return deadline_; }
  const std::string& match_key() const { return match_key_; }

  /*! \brief Return how the process ended, as waitpid says it, with all that it started ended too; nothing if it
   *  runs. */
  std::optional<int> Ended();

  /*! \brief End the process, and answer the call that took too long. Returns as Ended. */
  int EndLate();

 private:
  int Reap();
  void TellLate() const;

  Socket connection_;
  std::string match_key_;
  std::string folder_;
  double seconds_;
  Time deadline_;
  pid_t process_ = -1;
};

}  // namespace deeprebirth
