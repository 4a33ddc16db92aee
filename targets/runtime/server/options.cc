#include "options.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>

namespace deeprebirth {
namespace {

constexpr int kLastPort = 65535;
constexpr int kMostThreads = 1024;

int Whole(const std::string& name, const std::string& value, int most) {
  bool digits = !value.empty() && value.size() < 7 && value.find_first_not_of("0123456789") == std::string::npos;
  int number = digits ? std::stoi(value) : 0;
  if (number < 1 || number > most) {
    throw Misspelt(name + " " + value + ": give a number from 1 to " + std::to_string(most));
  }
  return number;
}

Place ReadTracker(const std::string& name, const std::string& value) {
  size_t colon = value.rfind(':');
  std::string host = value.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.empty()) throw Misspelt(name + " " + value + ": write it as HOST:PORT, such as tuner:9190");
  return {host, Whole(name + "'s port", value.substr(colon + 1), kLastPort)};
}

std::string ReadKey(const std::string& name, const std::string& value) {
  bool blank = std::any_of(value.begin(), value.end(), [](unsigned char letter) { return std::isspace(letter); });
  if (value.empty() || blank) throw Misspelt(name + " '" + value + "': write it without spaces");
  return value;
}

}  // namespace

Options ReadOptions(int count, char** words) {
  Options options;
  using Read = std::function<void(const std::string&, const std::string&)>;
  const std::map<std::string, Read> readers = {
      {"--tracker", [&](auto& name, auto& value) { options.tracker = ReadTracker(name, value); }},
      {"--key", [&](auto& name, auto& value) { options.key = ReadKey(name, value); }},
      {"--host", [&](auto&, auto& value) { options.host = value; }},
      {"--port", [&](auto& name, auto& value) { options.port = Whole(name, value, kLastPort); }},
      {"--threads", [&](auto& name, auto& value) { options.threads = Whole(name, value, kMostThreads); }},
  };
  for (int i = 1; i < count; ++i) {
    std::string name = words[i];
    if (name == "--help" || name == "-h") {
      options.help = true;
      return options;
    }
    auto reader = readers.find(name);
    if (reader == readers.end()) throw Misspelt("unknown option " + name + ": --help lists them");
    if (++i == count) throw Misspelt(name + " needs a value: --help says which");
    reader->second(name, words[i]);
  }
  if (options.tracker.host.empty()) throw Misspelt("give --tracker HOST:PORT, where the tracker listens");
  if (options.key.empty()) throw Misspelt("give --key KEY, which devices of this kind are asked for by");
  return options;
}

const char* const kUsage =
    "usage: start --tracker HOST:PORT --key KEY [--host ADDRESS] [--port N] [--threads N]\n"
    "\n"
    "Let this device be measured on: register it at a tracker under a key, until SIGINT or SIGTERM.\n"
    "\n"
    "  --tracker HOST:PORT  where `deeprebirth tracker` listens\n"
    "  --key KEY            the key that devices of this kind are asked for by\n"
    "  --host ADDRESS       the address to listen on (127.0.0.1); 0.0.0.0 lets other machines in, and an RPC\n"
    "                       server runs any code that it is sent: only where you trust every machine\n"
    "  --port N             the port to listen on; by default a free one\n"
    "  --threads N          cores that measured code uses; by default all\n"
    "  --help               print this\n";

}  // namespace deeprebirth
