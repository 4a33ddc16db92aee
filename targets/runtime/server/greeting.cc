#include "greeting.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "wire.h"

namespace deeprebirth {
namespace {

constexpr double kGreetingSeconds = 10;
constexpr size_t kHeader = 8;
const std::string kTimeout = "-timeout=";

}  // namespace

Greeting::Greeting(Socket connection, std::string client)
    : connection_(std::move(connection)), client_(std::move(client)), deadline_(In(kGreetingSeconds)) {
  connection_.Prepare();
}

bool Greeting::Read() {
  connection_.Receive(&data_, Wanted() - data_.size());
  if (data_.size() == kHeader) {
    int32_t length = AsNumber(data_, 4);
    if (AsNumber(data_) != kRpcMagic || length <= 0 || length > kLongestKey) throw Away("it is no client of TVM");
  }
  return data_.size() > kHeader && data_.size() == Wanted();
}

std::string Greeting::Key() const {
  std::istringstream words(data_.substr(kHeader));
  std::string key;
  words >> key;
  return key;
}

double Greeting::TimeLimit() const {
  double seconds = std::numeric_limits<double>::infinity();
  std::istringstream words(data_.substr(kHeader));
  for (std::string word; words >> word;) {
    if (word.rfind(kTimeout, 0) != 0) continue;
    const char* number = word.c_str() + kTimeout.size();
    char* end = nullptr;
    seconds = std::strtod(number, &end);
    if (end == number || *end != 0 || std::isnan(seconds)) throw Away("its time limit is no number");
  }
  return seconds;
}

size_t Greeting::Wanted() const { return data_.size() < kHeader ? kHeader : kHeader + AsNumber(data_, 4); }

}  // namespace deeprebirth
