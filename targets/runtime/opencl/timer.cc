/*! \file timer.cc
 *  The clock that TVM's time evaluator measures OpenCL devices with: the device's own, from the end of a marker before
 *  the work to the end of one behind it. The queue is empty before the work begins. So what passes until the first
 *  kernel and between two kernels counts, as it does in a network.
 *
 *  Where a driver does not tell times of markers, it is the host's, from a queue that is empty to one that is again.
 */
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/device_api.h>

#include <chrono>

#include "devices.h"
#include "errors.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

using Clock = std::chrono::steady_clock;

/*! \brief TVM's class `TimerNode`, whose header includes one that the wheel lacks: the same key and virtual functions
 *  in the same order. */
class TimerNode : public ffi::Object {
 public:
  virtual void Start() = 0;
  virtual void Stop() = 0;
  virtual int64_t SyncAndGetElapsedNanos() = 0;
  virtual ~TimerNode() {}

  static constexpr const bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO("runtime.TimerNode", TimerNode, ffi::Object);
};

/*! \brief A point in a queue: reached when all that was put into it before has ended. */
class Marker {
 public:
  Marker() = default;
  Marker(const Marker&) = delete;
  Marker& operator=(const Marker&) = delete;
  ~Marker() {
    if (event_ && !IsForked()) Cl().clReleaseEvent(event_);
  }

  void Put(cl_command_queue queue) {
    Check(Cl().clEnqueueMarkerWithWaitList(queue, 0, nullptr, &event_), "measuring a time");
    Check(Cl().clFlush(queue), "measuring a time");
  }

  /*! \brief Return when it was reached, in ns of the device's clock; 0 if the driver does not tell. */
  cl_ulong Reached() const {
    cl_ulong time = 0;
    cl_int code = Cl().clGetEventProfilingInfo(event_, CL_PROFILING_COMMAND_END, sizeof time, &time, nullptr);
    return code == CL_SUCCESS ? time : 0;
  }

 private:
  cl_event event_ = nullptr;
};

class OpenCLTimerNode final : public TimerNode {
 public:
  explicit OpenCLTimerNode(int device) : queue_(QueueOf(device)) {}

  void Start() final {
    first_.Put(queue_);
    Finish();
    started_ = Clock::now();
  }

  void Stop() final { last_.Put(queue_); }

  int64_t SyncAndGetElapsedNanos() final {
    Finish();
    int64_t on_host = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started_).count();
    cl_ulong first = first_.Reached(), last = last_.Reached();
    return first != 0 && last > first ? static_cast<int64_t>(last - first) : on_host;
  }

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("deeprebirth.OpenCLTimer", OpenCLTimerNode, TimerNode);

 private:
  void Finish() const { Check(Cl().clFinish(queue_), "measuring a time"); }

  cl_command_queue queue_;
  Clock::time_point started_;
  Marker first_, last_;
};

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef().def("runtime.timer.opencl", [](DLDevice device) {
    auto timer = ffi::make_object<OpenCLTimerNode>(device.device_id);
    timer->Start();
    return ffi::ObjectRef(timer);
  });
}

}  // namespace
}  // namespace deeprebirth::opencl
