/*! \file sockets.h
 *  TCP connections of which none is ever waited for: who calls polls them.
 */
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace deeprebirth {

/*! \brief Someone at the other end is gone, or says what nobody should. */
class Away : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/*! \brief A socket, or none, which is closed with this object. */
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() { Close(); }

  int fd() const { return fd_; }
  void Close();

  /*! \brief Send a short message at once; Away if that cannot be. */
  void Send(const std::string& data) const;

  /*! \brief Append what has come, at most so many bytes; Away if the other end closed the connection. */
  void Receive(std::string* data, size_t most) const;

  /*! \brief Let every segment be sent at once, and notice in half a minute that the other end is gone. */
  void Prepare() const;

  void SetBlocking(bool blocking) const;

 private:
  int fd_;
};

/*! \brief Where a socket is: an address without a name, and a port. */
struct Place {
  std::string host;
  int port = 0;
};

/*! \brief Listen on a port, or on a free one from 20000 up if it is 0; std::runtime_error says what is wrong. */
Socket Listen(const std::string& host, int port);

/*! \brief Begin to connect; the socket can be written to when that is done. Away if it cannot be begun. */
Socket Connect(const Place& place);

/*! \brief Check that connecting went well; Away with the reason if not. */
void RequireConnected(const Socket& socket);

/*! \brief Take a connection; no socket if there is none after all. */
Socket Accept(const Socket& listener, Place* client);

/*! \brief Return the socket's own address. */
Place OwnPlace(const Socket& socket);

bool IsLoopback(const std::string& host);
bool IsWildcard(const std::string& host);

}  // namespace deeprebirth
