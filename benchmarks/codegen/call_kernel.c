/* Calls a kernel that TVM compiled, without TVM's runtime: `call_kernel CALLS SHAPE...`.
 *
 * Each SHAPE, such as 1x64x56x56, is an argument of float32, filled with a constant. What the kernel asks of the
 * runtime is answered here: workspace comes from malloc, and the parts of a parallel loop run one after the
 * other. It ends with 1 when the kernel reports an error.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>

enum { MOST_ARGUMENTS = 16, MOST_AXES = 8, PARTS = 4, ALIGNMENT = 64 };

struct parts {
  void *sync_handle;
  int32_t num_task;
};
typedef int (*part)(int, struct parts *, void *);

int __tvm_ffi_main(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);

static int launch(part run, void *closure, int count) {
  struct parts parts = {NULL, count ? count : PARTS};
  for (int at = 0; at < parts.num_task; at++)
    if (run(at, &parts, closure)) return 1;
  return 0;
}

static void *aligned(size_t bytes) {
  return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
}

static void *workspace(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return aligned(bytes);
}

static int release(int type, int id, void *memory) {
  (void)type, (void)id;
  free(memory);
  return 0;
}

int (*__TVMBackendParallelLaunch)(part, void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int at = 0; at < count; at++) fputs(parts[at], stderr);
  fputc('\n', stderr);
}

static void fill(DLTensor *tensor, int64_t *shape, char *text) {
  size_t size = 1;
  int axes = 0;
  for (char *word = strtok(text, "x"); word && axes < MOST_AXES; word = strtok(NULL, "x")) {
    shape[axes] = atoll(word);
    size *= shape[axes++];
  }
  float *values = aligned(size * sizeof *values);
  for (size_t at = 0; at < size; at++) values[at] = 0.125f;
  *tensor = (DLTensor){values, {kDLCPU, 0}, axes, {kDLFloat, 32, 1}, shape, NULL, 0};
}

int main(int count, char **words) {
  static DLTensor tensors[MOST_ARGUMENTS];
  static int64_t shapes[MOST_ARGUMENTS][MOST_AXES];
  static TVMFFIAny arguments[MOST_ARGUMENTS];
  int tensors_given = count - 2;
  if (tensors_given < 1 || tensors_given > MOST_ARGUMENTS) return 2;
  for (int at = 0; at < tensors_given; at++) {
    fill(&tensors[at], shapes[at], words[at + 2]);
    arguments[at].type_index = kTVMFFIDLTensorPtr;
    arguments[at].v_ptr = &tensors[at];
  }
  TVMFFIAny result = {0};
  for (int call = 0; call < atoi(words[1]); call++)
    if (__tvm_ffi_main(NULL, arguments, tensors_given, &result)) return 1;
  return 0;
}
