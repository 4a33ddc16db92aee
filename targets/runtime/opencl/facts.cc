/*! \file facts.cc
 *  What others ask the plug-in: which devices there are, and what was done, each as one line of JSON.
 */
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/reflection/registry.h>

#include "devices.h"
#include "kernel.h"
#include "memory.h"
#include "program.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;
namespace json = tvm::ffi::json;

json::Object Described(size_t place, const Facts& facts) {
  json::Object fields;
  fields.Set("place", static_cast<int64_t>(place));
  fields.Set("name", ffi::String(facts.name));
  fields.Set("platform", ffi::String(facts.platform));
  fields.Set("version", ffi::String(facts.version));
  fields.Set("driver", ffi::String(facts.driver));
  fields.Set("type", ffi::String(facts.type));
  fields.Set("compute_units", static_cast<int64_t>(facts.compute_units));
  fields.Set("work_group", static_cast<int64_t>(facts.work_group));
  fields.Set("local_memory", static_cast<int64_t>(facts.local_memory));
  fields.Set("global_memory", static_cast<int64_t>(facts.global_memory));
  fields.Set("largest_buffer", static_cast<int64_t>(facts.largest_buffer));
  fields.Set("float16", facts.float16);
  return fields;
}

ffi::String Devices() {
  json::Array devices;
  for (size_t place = 0; place < Listed().size(); ++place) {
    devices.push_back(Described(place, Listed()[place]->facts()));
  }
  return json::Stringify(devices);
}

ffi::String Counts() {
  MemoryInUse memory = InUse();
  ProgramsMade programs = Made();
  json::Object counts;
  counts.Set("buffers", memory.buffers);
  counts.Set("bytes", memory.bytes);
  counts.Set("launches", Launched());
  counts.Set("programs_built", programs.built);
  counts.Set("programs_cached", programs.cached);
  return json::Stringify(counts);
}

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef()
      .def("deeprebirth.opencl.devices", Devices)
      .def("deeprebirth.opencl.chosen", []() { return static_cast<int64_t>(Chosen()); })
      .def("deeprebirth.opencl.counts", Counts);
}

}  // namespace
}  // namespace deeprebirth::opencl
