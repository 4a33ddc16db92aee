#include "device.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "wire.h"

namespace deeprebirth {
namespace {

#if defined(__ANDROID__)
const char* const kSystem = "Android";
#else
const char* const kSystem = "Linux";
#endif

using Fields = std::multimap<std::string, std::string>;

std::string Trimmed(const std::string& text) {
  const char* blanks = " \t\n\r";
  size_t first = text.find_first_not_of(blanks);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/*! \brief Read /proc/cpuinfo: most names come once for each core. */
Fields CpuInfo() {
  Fields fields;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    size_t colon = line.find(':');
    if (colon != std::string::npos) fields.emplace(Trimmed(line.substr(0, colon)), Trimmed(line.substr(colon + 1)));
  }
  return fields;
}

std::string FirstOf(const Fields& fields, const std::string& name) {
  auto found = fields.find(name);
  return found == fields.end() ? "" : found->second;
}

std::string List(const std::vector<std::string>& strings) {
  std::string list;
  for (const std::string& each : strings) list += (list.empty() ? "" : ", ") + Quoted(each);
  return "[" + list + "]";
}

std::string Hexadecimal(unsigned number) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%02x", number);
  return text;
}

#if defined(__aarch64__)

/*! \brief Return this core's implementer and part, which the kernel, or the emulator, lets a program read. */
std::string OwnPart() {
  if (!(getauxval(AT_HWCAP) & (1UL << 11))) return "";
  unsigned long midr = 0;
  asm("mrs %0, MIDR_EL1" : "=r"(midr));
  return Hexadecimal((midr >> 24) & 0xff) + ":" + Hexadecimal((midr >> 4) & 0xfff);
}

/*! \brief Return the names that Linux has for the bits of AT_HWCAP that matter to a compiler. */
std::string OwnFeatures() {
  static const std::vector<std::pair<int, const char*>> kNames = {
      {0, "fp"},       {1, "asimd"},     {3, "aes"},       {4, "pmull"}, {5, "sha1"},
      {6, "sha2"},     {7, "crc32"},     {8, "atomics"},   {9, "fphp"},  {10, "asimdhp"},
      {12, "asimdrdm"}, {20, "asimddp"}, {22, "sve"},      {23, "asimdfhm"}};
  std::string names;
  for (const auto& [bit, name] : kNames) {
    if (getauxval(AT_HWCAP) & (1UL << bit)) names += std::string(names.empty() ? "" : " ") + name;
  }
  return names;
}

#else

std::string OwnPart() { return ""; }
std::string OwnFeatures() { return ""; }

#endif

/*! \brief Return each core's implementer and part. An emulator shows the cpuinfo of the machine below it, which has
 *  none; its cores are all of one kind. */
std::vector<std::string> Parts(const Fields& cpuinfo) {
  std::vector<std::string> parts;
  auto [part, end] = cpuinfo.equal_range("CPU part");
  auto implementer = cpuinfo.equal_range("CPU implementer").first;
  for (; part != end && implementer != cpuinfo.end(); ++part, ++implementer) {
    parts.push_back(implementer->second + ":" + part->second);
  }
  if (parts.empty() && !OwnPart().empty()) parts.assign(CoreCount(), OwnPart());
  return parts;
}

std::string CoreName(const std::string& part) {
  static const std::map<std::string, const char*> kNames = {
      {"0x41:0xc07", "Cortex-A7"},  {"0x41:0xc09", "Cortex-A9"},  {"0x41:0xc0f", "Cortex-A15"},
      {"0x41:0xd03", "Cortex-A53"}, {"0x41:0xd05", "Cortex-A55"}, {"0x41:0xd07", "Cortex-A57"},
      {"0x41:0xd08", "Cortex-A72"}, {"0x41:0xd09", "Cortex-A73"}, {"0x41:0xd0a", "Cortex-A75"},
      {"0x41:0xd0b", "Cortex-A76"}, {"0x41:0xd0d", "Cortex-A77"}, {"0x41:0xd41", "Cortex-A78"},
      {"0x41:0xd42", "Cortex-A78AE"}};
  auto name = kNames.find(part);
  return name == kNames.end() ? part : name->second;
}

/*! \brief Return a string of the device tree; empty if there is none. */
std::string FromDeviceTree(const std::string& name) {
  std::ifstream file("/proc/device-tree/" + name);
  std::string text;
  for (char letter; file.get(letter);) text += letter ? letter : ' ';
  return Trimmed(text);
}

/*! \brief Return the board's name, from its device tree or from /proc/cpuinfo; empty if there is none. */
std::string BoardName(const Fields& cpuinfo) {
  std::string name = FromDeviceTree("model");
  if (name.empty()) name = FirstOf(cpuinfo, "Model");
  return name.empty() ? FirstOf(cpuinfo, "Hardware") : name;
}

/*! \brief Return the processor in words, such as `Cortex-A72 (Raspberry Pi 4 Model B Rev 1.4)`. */
std::string CpuModel(const std::string& machine) {
  Fields cpuinfo = CpuInfo();
  std::string cores;
  std::vector<std::string> parts = Parts(cpuinfo);
  for (const std::string& part : std::set<std::string>(parts.begin(), parts.end())) {
    cores += (cores.empty() ? "" : " + ") + CoreName(part);
  }
  if (cores.empty()) cores = FirstOf(cpuinfo, "model name");
  if (cores.empty()) cores = machine;
  std::string board = BoardName(cpuinfo);
  return board.empty() ? cores : cores + " (" + board + ")";
}

std::string LinkAt(const std::string& path) {
  char target[PATH_MAX];
  ssize_t size = readlink(path.c_str(), target, sizeof target);
  return std::string(target, size < 0 ? 0 : size);
}

/*! \brief Tell whether the kernel runs another program than this one: an emulator such as qemu-user.
 *
 *  Asked for the program of the process, an emulator names its guest; asked for that of its thread, it does not
 *  know what it is asked, and the kernel names the emulator.
 */
bool IsEmulated() {
  return LinkAt("/proc/self/exe") != LinkAt("/proc/self/task/" + std::to_string(getpid()) + "/exe");
}

int Quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return INT_MAX;
  return static_cast<int>(std::ceil(quota / period));
}

utsname System() {
  utsname names{};
  uname(&names);
  return names;
}

}  // namespace

int CoreCount() {
  cpu_set_t cores;
  int allowed = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return std::max(1, std::min(allowed, Quota()));
}

std::string DeviceFacts(int threads) {
  utsname names = System();
  std::string system = std::string(names.sysname) + " " + names.machine;
  return "{\"cpu\": " + Quoted(CpuModel(names.machine)) + ", \"system\": " + Quoted(system) +
         ", \"cores\": " + std::to_string(CoreCount()) + ", \"threads\": " + std::to_string(threads) +
         ", \"emulated\": " + (IsEmulated() ? "true" : "false") + "}";
}

/*! \brief Return the machine that programs like this one are for: a 32-bit one may run on a 64-bit kernel. */
std::string Machine() {
  std::string machine = System().machine;
  bool is_wide = machine == "aarch64" || machine == "arm64";
  return is_wide && sizeof(void*) == 4 ? "armv8l" : machine;
}

std::string DeviceTraits() {
  Fields cpuinfo = CpuInfo();
  std::string features = FirstOf(cpuinfo, "Features");
  std::istringstream words(features.empty() ? OwnFeatures() : features);
  std::vector<std::string> names{std::istream_iterator<std::string>(words), {}};
  return "{\"system\": " + Quoted(kSystem) + ", \"machine\": " + Quoted(Machine()) +
         ", \"cores\": " + std::to_string(CoreCount()) +
         ", \"model\": " + Quoted(Trimmed(BoardName(cpuinfo) + " " + FromDeviceTree("compatible"))) +
         ", \"parts\": " + List(Parts(cpuinfo)) + ", \"features\": " + List(names) + "}";
}

}  // namespace deeprebirth
