#include "copying.h"

#include <tvm/ffi/error.h>

#include <vector>

#include "devices.h"
#include "errors.h"
#include "memory.h"

namespace deeprebirth::opencl {
namespace {

/*! \brief Return the allocation; throws if the bytes are not all inside it. */
Allocation Within(Place place, size_t bytes) {
  Allocation allocation = Find(place.data);
  if (place.offset > allocation.bytes || bytes > allocation.bytes - place.offset) {
    TVM_FFI_THROW(ValueError) << "OpenCL, copying " << bytes << " bytes at offset " << place.offset
                              << ": the tensor's memory has " << allocation.bytes;
  }
  return allocation;
}

}  // namespace

void CopyToHost(Place from, void* to, size_t bytes, cl_command_queue queue) {
  cl_mem buffer = Within(from, bytes).buffer;
  Check(Cl().clEnqueueReadBuffer(queue, buffer, CL_TRUE, from.offset, bytes, to, 0, nullptr, nullptr),
        "copying from the device");
}

void CopyFromHost(const void* from, Place to, size_t bytes, cl_command_queue queue) {
  cl_mem buffer = Within(to, bytes).buffer;
  Check(Cl().clEnqueueWriteBuffer(queue, buffer, CL_TRUE, to.offset, bytes, from, 0, nullptr, nullptr),
        "copying to the device");
}

void CopyOnDevices(Place from, Place to, size_t bytes, void* stream) {
  const Allocation source = Within(from, bytes), destination = Within(to, bytes);
  if (source.device == destination.device) {
    cl_command_queue queue = QueueOf(source.device, stream);
    Check(Cl().clEnqueueCopyBuffer(queue, source.buffer, destination.buffer, from.offset, to.offset, bytes, 0, nullptr,
                                   nullptr),
          "copying on the device");
    return;
  }
  std::vector<char> between(bytes);
  CopyToHost(from, between.data(), bytes, QueueOf(source.device));
  CopyFromHost(between.data(), to, bytes, QueueOf(destination.device));
}

}  // namespace deeprebirth::opencl
