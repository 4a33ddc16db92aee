#include "sockets.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <random>

namespace deeprebirth {
namespace {

constexpr int kBacklog = 64;
constexpr int kFirstPort = 20000;
constexpr int kLastPort = 29999;
constexpr int kAttempts = 100;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses Find(const Place& place, int flags) {
  addrinfo hint{};
  hint.ai_family = AF_UNSPEC;
  hint.ai_socktype = SOCK_STREAM;
  hint.ai_flags = flags;
  addrinfo* found = nullptr;
  int code = getaddrinfo(place.host.c_str(), std::to_string(place.port).c_str(), &hint, &found);
  if (code != 0) throw Away(gai_strerror(code));
  return Addresses(found, &freeaddrinfo);
}

Socket Open(const addrinfo& address) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) throw Away(std::strerror(errno));
  return socket;
}

Place Named(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  int flags = NI_NUMERICHOST | NI_NUMERICSERV;
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                  flags) != 0) {
    return {};
  }
  return {host, std::stoi(port)};
}

/*! \brief Listen on one port; no socket if it is in use. */
Socket Bound(const Place& place) {
  Addresses address = Find(place, AI_PASSIVE);
  Socket socket = Open(*address);
  int on = 1;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(socket.fd(), address->ai_addr, address->ai_addrlen) == 0 && listen(socket.fd(), kBacklog) == 0) {
    return socket;
  }
  if (errno == EADDRINUSE) return Socket();
  throw Away(std::strerror(errno));
}

std::string NumericHost(const std::string& host) {
  Addresses address = Find({host, 0}, AI_PASSIVE);
  sockaddr_storage storage{};
  std::memcpy(&storage, address->ai_addr, address->ai_addrlen);
  return Named(storage, address->ai_addrlen).host;
}

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void Socket::Send(const std::string& data) const {
  ssize_t sent = send(fd_, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(data.size())) throw Away(sent < 0 ? std::strerror(errno) : "it does not read");
}

void Socket::Receive(std::string* data, size_t most) const {
  char piece[4096];
  ssize_t size = recv(fd_, piece, std::min(most, sizeof piece), MSG_DONTWAIT);
  if (size == 0) throw Away("it closed the connection");
  if (size > 0) data->append(piece, size);
  if (size < 0 && errno != EAGAIN && errno != EINTR) throw Away(std::strerror(errno));
}

void Socket::Prepare() const {
  auto set = [this](int level, int option, int value) {
    setsockopt(fd_, level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

void Socket::SetBlocking(bool blocking) const {
  int flags = fcntl(fd_, F_GETFL);
  fcntl(fd_, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

Socket Listen(const std::string& host, int port) {
  std::mt19937 random{std::random_device{}()};
  std::uniform_int_distribution<int> any(kFirstPort, kLastPort);
  int candidate = port;
  try {
    for (int attempt = 0; attempt < (port == 0 ? kAttempts : 1); ++attempt) {
      candidate = port == 0 ? any(random) : port;
      Socket socket = Bound({host, candidate});
      if (socket.fd() >= 0) return socket;
    }
  } catch (const Away& error) {
    throw std::runtime_error("cannot listen on " + host + ": " + error.what() + "; check --host and --port");
  }
  throw std::runtime_error("port " + std::to_string(candidate) + " of " + host +
                           " is in use: end the program that has it, or give another --port");
}

Socket Connect(const Place& place) {
  Addresses address = Find(place, 0);
  Socket socket = Open(*address);
  socket.Prepare();
  if (connect(socket.fd(), address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
    throw Away(std::strerror(errno));
  }
  return socket;
}

void RequireConnected(const Socket& socket) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) throw Away(std::strerror(error));
}

Socket Accept(const Socket& listener, Place* client) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  Socket socket(
      accept4(listener.fd(), reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.fd() >= 0) *client = Named(address, size);
  return socket;
}

Place OwnPlace(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  return Named(address, size);
}

bool IsLoopback(const std::string& host) {
  std::string numeric = NumericHost(host);
  return numeric.rfind("127.", 0) == 0 || numeric == "::1";
}

bool IsWildcard(const std::string& host) {
  std::string numeric = NumericHost(host);
  return numeric == "0.0.0.0" || numeric == "::";
}

}  // namespace deeprebirth
