#include "log.h"

#include <unistd.h>

#include <ctime>

namespace deeprebirth {

void Say(const std::string& line) {
  char now[32];
  std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  size_t size = std::strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S ", &parts);
  std::string text(now, size);
  for (unsigned char letter : line) text += letter < ' ' || letter == 127 ? '?' : static_cast<char>(letter);
  text += '\n';
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

}  // namespace deeprebirth
