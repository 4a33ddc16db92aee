#include "programs.h"

#include "devices.h"
#include "program.h"

namespace deeprebirth::opencl {

Programs::~Programs() {
  if (IsForked()) return;
  for (const auto& [device, program] : built_) Cl().clReleaseProgram(program);
}

cl_program Programs::On(int device, const std::string& wanted) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = built_.find(device);
  if (found == built_.end()) found = built_.emplace(device, MakeProgram(&At(device), source_, wanted)).first;
  return found->second;
}

}  // namespace deeprebirth::opencl
