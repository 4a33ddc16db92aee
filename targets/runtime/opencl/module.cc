/*! \file module.cc
 *  TVM's view of compiled OpenCL kernels: a module that is made, saved, loaded and called.
 */
#include <tvm/ffi/cast.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/reflection/registry.h>

#include "contents.h"
#include "function.h"
#include "programs.h"

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

constexpr const char* kSourceFormat = "cl";

class Module final : public ffi::ModuleObj {
 public:
  explicit Module(Contents contents) : contents_(std::move(contents)), programs_(contents_.source) {
    if (contents_.format != kSourceFormat) {
      TVM_FFI_THROW(ValueError) << "OpenCL kernels of format " << contents_.format << " are not supported: build the "
                                << "library for target opencl";
    }
    for (const auto& [name, signature] : contents_.functions) {
      functions_.emplace(name, std::make_unique<Function>(signature, &programs_));
    }
  }

  const char* kind() const final { return "opencl"; }

  int GetPropertyMask() const final { return ffi::Module::kBinarySerializable | ffi::Module::kRunnable; }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    auto found = functions_.find(std::string(name));
    if (found == functions_.end()) return std::nullopt;
    auto self = ffi::GetObjectPtr<Module>(this);
    return ffi::Function::FromPacked([self, function = found->second.get()](ffi::PackedArgs arguments, ffi::Any*) {
      function->Call(arguments);
    });
  }

  ffi::Bytes SaveToBytes() const final { return Write(contents_); }

  ffi::String InspectSource(const ffi::String&) const final { return ffi::String(contents_.source); }

 private:
  Contents contents_;
  Programs programs_;
  std::map<std::string, std::unique_ptr<Function>> functions_;
};

ffi::Module Load(const ffi::Bytes& bytes) { return ffi::Module(ffi::make_object<Module>(Read(bytes))); }

/*! \brief Make a module of what the compiler generated; it gives the source also in other formats, for reading. */
ffi::Module Create(const ffi::Bytes& code, const ffi::String& format, const ffi::Map<ffi::String, ffi::Any>& infos,
                   const ffi::Any&) {
  Contents contents{format, Described(infos), std::string(code.data(), code.size())};
  return ffi::Module(ffi::make_object<Module>(std::move(contents)));
}

TVM_FFI_STATIC_INIT_BLOCK() {
  ffi::reflection::GlobalDef()
      .def("ffi.Module.load_from_bytes.opencl", Load)
      .def("ffi.Module.create.opencl", Create);
}

}  // namespace
}  // namespace deeprebirth::opencl
