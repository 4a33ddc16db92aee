#include "memory.h"

#include <tvm/ffi/error.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "devices.h"
#include "errors.h"

namespace deeprebirth::opencl {
namespace {

/*! \brief All allocations that live, so that a wrong address is an error and no crash. It outlives the process's
 *  other objects. */
struct Live {
  std::mutex mutex;
  std::unordered_map<const void*, std::unique_ptr<Allocation>> allocations;
  int64_t bytes = 0;
};

Live& TheLive() {
  static Live& live = *new Live;
  return live;
}

void CheckSize(size_t bytes, const Facts& facts) {
  if (bytes > facts.largest_buffer) {
    TVM_FFI_THROW(RuntimeError) << "OpenCL, a tensor of " << bytes << " bytes: " << facts.name << " allows at most "
                                << facts.largest_buffer << " for one: use a smaller batch or network";
  }
}

}  // namespace

Allocation* Allocate(int device, size_t bytes) {
  Device& on = At(device);
  CheckSize(bytes, on.facts());
  cl_int code = CL_SUCCESS;
  cl_mem buffer =
      Cl().clCreateBuffer(on.Context(), CL_MEM_READ_WRITE, std::max<size_t>(bytes, 1), nullptr, &code);
  if (code != CL_SUCCESS) {
    Check(code, "a tensor of " + std::to_string(bytes) + " bytes on " + on.facts().name + " of " +
                    std::to_string(on.facts().global_memory) + " bytes, " + std::to_string(InUse().bytes) + " in use");
  }
  auto made = std::make_unique<Allocation>(Allocation{buffer, bytes, device});
  Allocation* allocation = made.get();
  Live& live = TheLive();
  std::lock_guard<std::mutex> lock(live.mutex);
  live.bytes += bytes;
  live.allocations.emplace(allocation, std::move(made));
  return allocation;
}

void Free(void* data) {
  Allocation allocation = Find(data);
  Live& live = TheLive();
  {
    std::lock_guard<std::mutex> lock(live.mutex);
    live.bytes -= allocation.bytes;
    live.allocations.erase(data);
  }
  if (!IsForked()) Check(Cl().clReleaseMemObject(allocation.buffer), "freeing a tensor");
}

Allocation Find(const void* data) {
  Live& live = TheLive();
  std::lock_guard<std::mutex> lock(live.mutex);
  auto found = live.allocations.find(data);
  if (found == live.allocations.end()) {
    TVM_FFI_THROW(ValueError) << "the address " << data << " is no tensor on an OpenCL device: copy the tensor there";
  }
  return *found->second;
}

MemoryInUse InUse() {
  Live& live = TheLive();
  std::lock_guard<std::mutex> lock(live.mutex);
  return {static_cast<int64_t>(live.allocations.size()), live.bytes};
}

}  // namespace deeprebirth::opencl
