#include "cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

namespace deeprebirth::opencl {
namespace {

constexpr const char* kVariable = "DEEPREBIRTH_OPENCL_CACHE";
constexpr const char* kMark = "deeprebirth-opencl-1";
constexpr const char* kEnding = ".clbin";
constexpr off_t kMostBytes = off_t{256} << 20;

struct File {
  std::string path;
  off_t size;
  time_t used;
};

/*! \brief Make a folder and those it lies in, for this user alone. */
bool MakeFolder(const std::string& folder) {
  for (size_t end = folder.find('/', 1); end != std::string::npos; end = folder.find('/', end + 1)) {
    mkdir(folder.substr(0, end).c_str(), 0700);
  }
  mkdir(folder.c_str(), 0700);
  return access(folder.c_str(), W_OK | X_OK) == 0;
}

/*! \brief The 64-bit FNV-1a hash. */
uint64_t Hash(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char letter : text) hash = (hash ^ letter) * 0x100000001b3u;
  return hash;
}

std::string Hexadecimal(uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
  return text;
}

std::string PathOf(const std::string& folder, const std::string& key) {
  return folder + "/" + Hexadecimal(Hash(key)) + kEnding;
}

/*! \brief Return what stands before the binary in its file. */
std::string Heading(const std::string& key, const std::string& binary) {
  std::ostringstream heading;
  heading << kMark << '\n' << key.size() << ' ' << binary.size() << ' ' << Hexadecimal(Hash(binary)) << '\n' << key;
  return heading.str();
}

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool WriteWhole(const std::string& path, const std::string& heading, const std::string& binary) {
  std::ofstream file(path, std::ios::binary);
  file << heading << binary;
  file.close();
  return static_cast<bool>(file);
}

std::vector<File> Files(const std::string& folder) {
  std::vector<File> files;
  DIR* directory = opendir(folder.c_str());
  if (directory == nullptr) return files;
  while (const dirent* entry = readdir(directory)) {
    struct stat facts;
    std::string path = folder + "/" + entry->d_name;
    if (path.find(kEnding) == std::string::npos || stat(path.c_str(), &facts) != 0) continue;
    files.push_back({path, facts.st_size, facts.st_mtime});
  }
  closedir(directory);
  return files;
}

/*! \brief Remove what was not used for the longest time until the rest is small enough. */
void MakeRoom(const std::string& folder) {
  std::vector<File> files = Files(folder);
  std::sort(files.begin(), files.end(), [](const File& one, const File& other) { return one.used > other.used; });
  off_t bytes = 0;
  for (const File& file : files) {
    bytes += file.size;
    if (bytes > kMostBytes) unlink(file.path.c_str());
  }
}

}  // namespace

std::string CacheFolder(bool only_given) {
  if (const char* given = std::getenv(kVariable)) return std::strcmp(given, "off") == 0 ? "" : given;
  if (only_given) return "";
  const char* caches = std::getenv("XDG_CACHE_HOME");
  if (caches && *caches == '/') return std::string(caches) + "/deeprebirth/opencl";
  const char* home = std::getenv("HOME");
  return home && *home == '/' ? std::string(home) + "/.cache/deeprebirth/opencl" : "";
}

std::string ReadCached(const std::string& folder, const std::string& key) {
  if (folder.empty()) return "";
  std::string path = PathOf(folder, key), whole = Contents(path);
  size_t start = whole.find(key);
  if (start == std::string::npos) return "";
  std::string binary = whole.substr(start + key.size());
  if (whole.compare(0, start + key.size(), Heading(key, binary)) != 0) return "";
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  return binary;
}

void WriteCached(const std::string& folder, const std::string& key, const std::string& binary) {
  if (binary.empty() || folder.empty() || !MakeFolder(folder)) return;
  std::string path = PathOf(folder, key), unfinished = path + "." + std::to_string(getpid());
  if (!WriteWhole(unfinished, Heading(key, binary), binary) || std::rename(unfinished.c_str(), path.c_str()) != 0) {
    unlink(unfinished.c_str());
    return;
  }
  MakeRoom(folder);
}

}  // namespace deeprebirth::opencl
