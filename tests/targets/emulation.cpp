// Runs a function that TVM compiled, linked into this program: reads its inputs, writes its output.
//
// It stands in for the runtime: tasks of a parallel loop run one after the other.

#include <tvm/ffi/c_api.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

struct Environment {
  void* sync_handle;
  int32_t num_task;
};
using Task = int (*)(int, Environment*, void*);

extern "C" {
int __tvm_ffi_main(void*, TVMFFIAny*, int32_t, TVMFFIAny*);
extern int (*__TVMBackendParallelLaunch)(Task, void*, int);
extern void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void*);

void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  std::fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) std::fprintf(stderr, "%s", parts[i] ? parts[i] : "");
  std::fprintf(stderr, "\n");
}
}

static int OneAfterTheOther(Task task, void* data, int count) {
  Environment environment{nullptr, count > 0 ? count : 2};
  for (int i = 0; i < environment.num_task; ++i) {
    if (task(i, &environment, data) != 0) return -1;
  }
  return 0;
}

static void* Allocate(size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }

static void* AllocateWorkspace(int, int, uint64_t bytes, int, int) { return Allocate(bytes); }

static int FreeWorkspace(int, int, void* workspace) {
  std::free(workspace);
  return 0;
}

struct Tensor {
  std::vector<int64_t> shape, strides;
  DLTensor view{};
  float* data = nullptr;
  size_t count = 1;

  explicit Tensor(const std::vector<int64_t>& sizes) : shape(sizes), strides(sizes) {
    for (size_t i = shape.size(); i-- > 0; count *= shape[i]) strides[i] = count;
    data = static_cast<float*>(Allocate(count * sizeof(float)));
    view.data = data;
    view.device = {kDLCPU, 0};
    view.ndim = static_cast<int32_t>(shape.size());
    view.dtype = {kDLFloat, 32, 1};
    view.shape = shape.data();
    view.strides = strides.data();
  }

  TVMFFIAny Argument() {
    TVMFFIAny any{};
    any.type_index = kTVMFFIDLTensorPtr;
    any.v_ptr = &view;
    return any;
  }
};

int main() {
  __TVMBackendParallelLaunch = OneAfterTheOther;
  __TVMBackendAllocWorkspace = AllocateWorkspace;
  __TVMBackendFreeWorkspace = FreeWorkspace;
  Tensor image({1, 8, 8, 16}), weights({3, 3, 16, 8}), output({1, 6, 6, 8});
  for (Tensor* input : {&image, &weights}) {
    if (std::fread(input->data, sizeof(float), input->count, stdin) != input->count) return 2;
  }
  TVMFFIAny arguments[] = {image.Argument(), weights.Argument(), output.Argument()};
  TVMFFIAny result{};
  if (__tvm_ffi_main(nullptr, arguments, 3, &result) != 0) return 1;
  return std::fwrite(output.data, sizeof(float), output.count, stdout) == output.count ? 0 : 2;
}
