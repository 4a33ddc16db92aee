/*! \file device_api.cc
 *  TVM's view of OpenCL devices: attributes, memory, copies, streams.
 */
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/device_api.h>

#include "copying.h"
#include "current.h"
#include "devices.h"
#include "errors.h"
#include "memory.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

constexpr int64_t kKiloHertz = 1000;

class DeviceApi final : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(tvm::Device device) final { SetCurrentDevice(device.device_id); }

  void GetAttr(tvm::Device device, tvm::runtime::DeviceAttrKind kind, ffi::Any* value) final {
    if (kind == tvm::runtime::kExist) {
      *value = static_cast<int>(device.device_id >= 0 && device.device_id < Count());
    } else {
      *value = Attribute(At(device.device_id).facts(), kind);
    }
  }

  void* AllocDataSpace(tvm::Device device, size_t bytes, size_t, DLDataType) final {
    return Allocate(device.device_id, bytes);
  }

  void* AllocDataSpace(tvm::Device device, int ndim, const int64_t* shape, DLDataType type,
                       ffi::Optional<ffi::String> scope) final {
    std::string name = scope.has_value() ? std::string(*scope) : "";
    if (name.rfind("global.texture", 0) == 0) {
      TVM_FFI_THROW(ValueError) << "OpenCL, a tensor in scope " << name << ": textures are not supported, since TVM's "
                                << "code for them computes wrong results; compile for buffers";
    }
    return DeviceAPI::AllocDataSpace(device, ndim, shape, type, scope);
  }

  void FreeDataSpace(tvm::Device, void* data) final { Free(data); }

  TVMStreamHandle CreateStream(tvm::Device device) final { return At(device.device_id).NewQueue(); }

  void FreeStream(tvm::Device device, TVMStreamHandle stream) final {
    if (stream == nullptr) return;
    StreamSync(device, stream);
    Check(Cl().clReleaseCommandQueue(static_cast<cl_command_queue>(stream)), "freeing a stream");
  }

  void StreamSync(tvm::Device device, TVMStreamHandle stream) final {
    Check(Cl().clFinish(QueueOf(device.device_id, stream)), "waiting for the device");
  }

  void SyncStreamFromTo(tvm::Device device, TVMStreamHandle from, TVMStreamHandle to) final {
    cl_command_queue first = QueueOf(device.device_id, from), second = QueueOf(device.device_id, to);
    cl_event reached = nullptr;
    Check(Cl().clEnqueueMarkerWithWaitList(first, 0, nullptr, &reached), "waiting for a stream");
    cl_int code = Cl().clEnqueueBarrierWithWaitList(second, 1, &reached, nullptr);
    Cl().clReleaseEvent(reached);
    Check(code, "waiting for a stream");
    Check(Cl().clFlush(first), "waiting for a stream");
  }

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset, size_t bytes,
                      tvm::Device device_from, tvm::Device device_to, DLDataType, TVMStreamHandle stream) final {
    if (bytes == 0) return;
    if (device_from.device_type != kDLOpenCL) {
      const char* host = static_cast<const char*>(from) + from_offset;
      CopyFromHost(host, {to, to_offset}, bytes, QueueOf(device_to.device_id, stream));
    } else if (device_to.device_type != kDLOpenCL) {
      char* host = static_cast<char*>(to) + to_offset;
      CopyToHost({from, from_offset}, host, bytes, QueueOf(device_from.device_id, stream));
    } else {
      CopyOnDevices({from, from_offset}, {to, to_offset}, bytes, stream);
    }
  }

 private:
  /*! \brief Return an attribute, or None for what OpenCL does not know. */
  static ffi::Any Attribute(const Facts& facts, tvm::runtime::DeviceAttrKind kind) {
    switch (kind) {
      case tvm::runtime::kMaxThreadsPerBlock:
        return static_cast<int64_t>(facts.work_group);
      case tvm::runtime::kWarpSize:
        return 1;
      case tvm::runtime::kMaxSharedMemoryPerBlock:
        return static_cast<int64_t>(facts.local_memory);
      case tvm::runtime::kComputeVersion:
        return ffi::String(facts.version);
      case tvm::runtime::kDeviceName:
        return ffi::String(facts.name);
      case tvm::runtime::kMaxClockRate:
        return facts.clock * kKiloHertz;
      case tvm::runtime::kMultiProcessorCount:
        return static_cast<int64_t>(facts.compute_units);
      case tvm::runtime::kMaxThreadDimensions:
        return Dimensions(facts);
      case tvm::runtime::kDriverVersion:
        return ffi::String(facts.driver);
      case tvm::runtime::kL2CacheSizeBytes:
        return static_cast<int64_t>(facts.cache);
      case tvm::runtime::kTotalGlobalMemory:
        return static_cast<int64_t>(facts.global_memory);
      default:
        return nullptr;
    }
  }

  /*! \brief Return the list as JSON, which TVM's Python side reads. */
  static ffi::String Dimensions(const Facts& facts) {
    std::string list;
    for (size_t size : facts.work_items) list += (list.empty() ? "[" : ", ") + std::to_string(size);
    return ffi::String(list + "]");
  }
};

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("device_api.opencl", []() -> void* {
    static DeviceApi& api = *new DeviceApi;
    return static_cast<tvm::runtime::DeviceAPI*>(&api);
  });
}

}  // namespace
}  // namespace deeprebirth::opencl
