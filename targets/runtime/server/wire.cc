#include "wire.h"

#include <cstdio>

namespace deeprebirth {

std::string Number(int32_t value) {
  std::string data(4, 0);
  for (int i = 0; i < 4; ++i) data[i] = static_cast<char>(static_cast<uint32_t>(value) >> (8 * i));
  return data;
}

int32_t AsNumber(const std::string& data, size_t place) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<uint8_t>(data[place + i])) << (8 * i);
  return static_cast<int32_t>(value);
}

std::string Text(const std::string& letters) {
  return Number(static_cast<int32_t>(letters.size())) + letters;
}

std::string Quoted(const std::string& letters) {
  std::string text = "\"";
  for (char letter : letters) {
    if (letter == '"' || letter == '\\') {
      text += {'\\', letter};
    } else if (static_cast<unsigned char>(letter) < ' ') {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(letter));
      text += code;
    } else {
      text += letter;
    }
  }
  return text + "\"";
}

}  // namespace deeprebirth
