#include "scratch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace deeprebirth {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "deeprebirth-rpc-";
constexpr const char* kUnlockedPrefix = "deeprebirth-new-";

std::string Base() {
  const char* base = std::getenv("TMPDIR");
#ifdef __ANDROID__
  return base ? base : "/data/local/tmp";
#else
  return base ? base : "/tmp";
#endif
}

void RemoveIfLeft(const fs::path& folder) {
  int lock = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (lock < 0) return;
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) RemoveFolder(folder);
  close(lock);
}

void RemoveAllLeft(const std::string& base) {
  std::error_code error;
  for (fs::directory_iterator each(base, error), end; !error && each != end; each.increment(error)) {
    if (each->path().filename().string().rfind(kPrefix, 0) == 0) RemoveIfLeft(each->path());
  }
}

}  // namespace

ServerFolder::ServerFolder() {
  std::string base = Base();
  RemoveAllLeft(base);
  std::string made = MakeFolder(base, kUnlockedPrefix);
  lock_ = open(made.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  flock(lock_, LOCK_EX);
  path_ = base + "/" + kPrefix + made.substr(made.rfind('-') + 1);
  if (std::rename(made.c_str(), path_.c_str()) != 0) path_ = made;
}

ServerFolder::~ServerFolder() {
  RemoveFolder(path_);
  close(lock_);
}

std::string MakeFolder(const std::string& base, const std::string& prefix) {
  std::string path = base + "/" + prefix + "XXXXXX";
  if (!mkdtemp(path.data())) {
    throw std::runtime_error("cannot make a folder in " + base + " (" + std::strerror(errno) +
                             "): make room there, or set TMPDIR to another folder");
  }
  return path;
}

void RemoveFolder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
}

}  // namespace deeprebirth
