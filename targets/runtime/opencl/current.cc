#include "current.h"

namespace deeprebirth::opencl {
namespace {

thread_local int current = 0;

}  // namespace

void SetCurrentDevice(int number) { current = number; }

int CurrentDevice() { return current; }

}  // namespace deeprebirth::opencl
