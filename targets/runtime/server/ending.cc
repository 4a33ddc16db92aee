#include "ending.h"

#include <sys/wait.h>

#include <csignal>
#include <map>

#include "wire.h"

namespace deeprebirth {
namespace {

std::string SignalName(int number) {
  static const std::map<int, const char*> kNames = {
      {SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"}, {SIGILL, "SIGILL"},
      {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
      {SIGKILL, "SIGKILL"}, {SIGSEGV, "SIGSEGV"}, {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"},
      {SIGTERM, "SIGTERM"}, {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"}, {SIGSYS, "SIGSYS"}};
  auto name = kNames.find(number);
  return name == kNames.end() ? "signal " + std::to_string(number) : name->second;
}

}  // namespace

std::string Ending::ToJson() const {
  bool killed = WIFSIGNALED(status);
  return "{\"session\": " + std::to_string(session) +
         ", \"signal\": " + (killed ? Quoted(SignalName(WTERMSIG(status))) : "null") +
         ", \"code\": " + (killed ? "null" : std::to_string(WEXITSTATUS(status))) +
         ", \"late\": " + (late ? "true" : "false") + "}";
}

std::string Ending::InWords() const {
  if (late) return "its time was over";
  if (WIFSIGNALED(status)) return "ended by " + SignalName(WTERMSIG(status));
  return "ended with code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace deeprebirth
