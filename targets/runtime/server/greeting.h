/*! \file greeting.h
 *  A client's first words: its key and its options.
 */
#pragma once

#include <string>

#include "clock.h"
#include "sockets.h"

namespace deeprebirth {

/*! \brief A connection whose client has not said yet what it wants. */
class Greeting {
 public:
  Greeting(Socket connection, std::string client);

  int fd() const { return connection_.fd(); }
  Time deadline() const { return deadline_; }
  const std::string& client() const { return client_; }

  /*! \brief Read what came and not one byte more than the words: what follows is for the session's process.
   *  \return Whether all words are there.
   *  \throws Away if it is no client of TVM. */
  bool Read();

  /*! \brief The key, without options. */
  std::string Key() const;

  /*! \brief The seconds the client gives its session; infinity if it gives no limit. Away if they are no number. */
  double TimeLimit() const;

  Socket TakeConnection() { return std::move(connection_); }

 private:
  size_t Wanted() const;

  Socket connection_;
  std::string client_;
  Time deadline_;
  std::string data_;
};

}  // namespace deeprebirth
