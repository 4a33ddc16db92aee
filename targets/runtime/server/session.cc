#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "device.h"
#include "log.h"
#include "scratch.h"

namespace deeprebirth {
namespace {

namespace ffi = tvm::ffi;

constexpr timeval kAnswerTime = {5, 0};

/*! \brief Become a process group of its own that ends with the server, and is what the system kills for memory. */
void LeaveTheServer(pid_t server, const std::vector<int>& closed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != server) _exit(1);
  setsid();
  for (int fd : closed) close(fd);
  for (int number : {SIGCHLD, SIGINT, SIGTERM}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::ofstream("/proc/self/oom_score_adj") << 1000;
}

/*! \brief What code prints that a client sent is not for the server's log. */
void Silence() {
  int nothing = open("/dev/null", O_RDWR);
  for (int stream = 0; stream < 3; ++stream) dup2(nothing, stream);
}

/*! \brief Write an uploaded file; unlike TVM's own function it tells when the disk is full. */
void Write(const std::string& path, const ffi::Bytes& data) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  bool written = file && std::fwrite(data.data(), 1, data.size(), file) == data.size();
  int error = errno;
  if (file && std::fclose(file) != 0 && written) written = false, error = errno;
  if (!written) TVM_FFI_THROW(RuntimeError) << "the device cannot write " << path << ": " << std::strerror(error);
}

template <typename Function>
void Register(const char* name, Function function) {
  ffi::Function::SetGlobal(name, ffi::Function::FromTyped(std::move(function)), true);
}

void RegisterFunctions(const std::string& folder, const SessionOrder& order) {
  auto path = [folder](const ffi::String& name) {
    std::string given = name;
    return given.rfind('/', 0) == 0 ? given : folder + "/" + given;
  };
  Register("tvm.rpc.server.workpath", [path](ffi::String name) -> ffi::String { return path(name); });
  Register("tvm.rpc.server.upload", [path](ffi::String name, ffi::Bytes data) { Write(path(name), data); });
  Register("tvm.rpc.server.load_module",
           [path](ffi::String name) -> ffi::Module { return ffi::Module::LoadFromFile(path(name)); });
  Register("deeprebirth.last_end", [told = order.last_end]() -> ffi::String { return told; });
  Register("deeprebirth.device", [threads = order.threads]() -> ffi::String { return DeviceFacts(threads); });
  Register("deeprebirth.traits", []() -> ffi::String { return DeviceTraits(); });
}

/*! \brief Serve the connection and end the process. */
[[noreturn]] void BeASession(pid_t server, int connection, const std::string& folder, const SessionOrder& order) {
  LeaveTheServer(server, order.closed);
  setenv("TMPDIR", folder.c_str(), 1);
  try {
    if (chdir(folder.c_str()) != 0) throw std::runtime_error("its folder is gone");
    RegisterFunctions(folder, order);
    Silence();
    ffi::Function::GetGlobalRequired("rpc.ServerLoop")(static_cast<int64_t>(connection));
  } catch (const std::exception& error) {
    Say(std::string("the session failed: ") + error.what());
    _exit(1);
  }
  _exit(0);
}

}  // namespace

Session::Session(Socket connection, const SessionOrder& order)
    : connection_(std::move(connection)),
      match_key_(order.match_key),
      folder_(MakeFolder(order.base, "session-")),
      seconds_(order.seconds),
      deadline_(In(order.seconds)) {
  connection_.SetBlocking(true);
  pid_t server = getpid();
  process_ = fork();
  if (process_ == 0) BeASession(server, connection_.fd(), folder_, order);
  if (process_ < 0) {
    int error = errno;
    RemoveFolder(folder_);
    throw std::runtime_error(std::string("no process for a session: ") + std::strerror(error));
  }
}

Session::~Session() {
  if (process_ > 0) Reap();
  RemoveFolder(folder_);
}

std::optional<int> Session::Ended() {
  siginfo_t state{};
  if (waitid(P_PID, process_, &state, WEXITED | WNOWAIT | WNOHANG) == 0 && state.si_pid == 0) return std::nullopt;
  return Reap();
}

int Session::EndLate() {
  int status = Reap();
  TellLate();
  return status;
}

int Session::Reap() {
  int status = 0;
  kill(-process_, SIGKILL);
  kill(process_, SIGKILL);
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  process_ = -1;
  return status;
}

/*! What the client sent meanwhile is read, since closing a connection with unread bytes in it takes the answer
 *  back. */
void Session::TellLate() const {
  setsockopt(connection_.fd(), SOL_SOCKET, SO_SNDTIMEO, &kAnswerTime, sizeof kAnswerTime);
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%g", seconds_);
  try {
    ffi::Function::GetGlobalRequired("rpc.ReturnException")(
        static_cast<int64_t>(connection_.fd()),
        ffi::String(std::string("RPCSessionTimeoutError: the session took longer than its ") + seconds + " s"));
    shutdown(connection_.fd(), SHUT_WR);
    for (std::string unread;; unread.clear()) {
      connection_.Receive(&unread, 4096);
      if (unread.empty()) return;
    }
  } catch (const std::exception&) {
  }
}

}  // namespace deeprebirth
