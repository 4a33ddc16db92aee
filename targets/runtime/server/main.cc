/*! \file main.cc
 *  `deeprebirth-server`: offers a board without Python to those who tune and measure.
 */
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "device.h"
#include "log.h"
#include "options.h"
#include "plugin.h"
#include "server.h"

namespace deeprebirth {
namespace {

constexpr int kFailure = 1;
constexpr int kMistake = 2;

void WarnIfOpen(const Options& options) {
  if (!IsLoopback(options.host)) {
    Say("warning: listening on " + options.host + ", not on loopback: an RPC server runs any code that it is sent, " +
        "so only where you trust every machine");
  }
}

/*! A tracker whose name is not known yet is looked for later. */
void WarnIfOutOfReach(const Options& options) {
  try {
    if (IsLoopback(options.host) && !IsLoopback(options.tracker.host)) {
      Say("warning: other machines cannot reach a loopback address: give --host, or forward the port");
    }
  } catch (const Away&) {
  }
}

void Serve(const Options& options) {
  int threads = options.threads ? options.threads : CoreCount();
  setenv("TVM_NUM_THREADS", std::to_string(threads).c_str(), 1);
  setenv("TVM_BIND_THREADS", "0", 1);
  LoadPlugin();
  Socket listener = Listen(options.host, options.port);
  Place place = OwnPlace(listener);
  Offer offer{options.key, IsWildcard(options.host) ? "" : place.host, place.port};
  Server server(std::move(listener), options.tracker, offer, threads);
  Say("serving " + options.key + " on " + place.host + ":" + std::to_string(place.port) + " with " +
      std::to_string(threads) + " threads");
  WarnIfOpen(options);
  WarnIfOutOfReach(options);
  server.Run();
  Say("ended");
}

int Main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    Options options = ReadOptions(count, words);
    if (options.help) {
      std::fputs(kUsage, stdout);
      return 0;
    }
    Serve(options);
    return 0;
  } catch (const Misspelt& error) {
    std::fprintf(stderr, "deeprebirth-server: %s\n", error.what());
    return kMistake;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "deeprebirth-server: %s\n", error.what());
    return kFailure;
  }
}

}  // namespace
}  // namespace deeprebirth

int main(int count, char** words) { return deeprebirth::Main(count, words); }
