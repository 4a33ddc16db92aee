#include "contents.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/reflection/accessor.h>

#include <cstring>

namespace deeprebirth::opencl {
namespace {

namespace ffi = tvm::ffi;

static_assert(sizeof(DLDataType) == 4, "a type is written as its four bytes: code, bits, two for lanes");

/*! \brief Reads numbers as the machine has them, and lists with their length before them. */
class Reader {
 public:
  explicit Reader(const ffi::Bytes& bytes) : at_(bytes.data()), left_(bytes.size()) {}

  template <typename T>
  void Take(T* value) {
    std::memcpy(value, Raw(sizeof *value), sizeof *value);
  }
  void Take(std::string* text) {
    uint64_t size = 0;
    Take(&size);
    text->assign(Raw(size), size);
  }
  template <typename T>
  void Take(std::vector<T>* list) {
    uint64_t size = 0;
    Take(&size);
    for (; size > 0; --size) Take(&list->emplace_back());
  }
  void Take(Signature* signature) {
    Take(&signature->kernel);
    Take(&signature->arguments);
    Take(&signature->launch);
    Take(&signature->extra);
  }
  void Take(std::pair<std::string, Signature>* function) {
    Take(&function->first);
    Take(&function->second);
  }

 private:
  const char* Raw(uint64_t size) {
    if (size > left_) TVM_FFI_THROW(ValueError) << "a module of OpenCL kernels is cut off: build the library again";
    const char* here = at_;
    at_ += size;
    left_ -= size;
    return here;
  }

  const char* at_;
  uint64_t left_;
};

class Writer {
 public:
  template <typename T>
  void Give(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void Give(const std::string& text) {
    Give<uint64_t>(text.size());
    bytes_ += text;
  }
  template <typename T>
  void Give(const std::vector<T>& list) {
    Give<uint64_t>(list.size());
    for (const T& each : list) Give(each);
  }
  void Give(const Signature& signature) {
    Give(signature.kernel);
    Give(signature.arguments);
    Give(signature.launch);
    Give(signature.extra);
  }
  void Give(const std::pair<std::string, Signature>& function) {
    Give(function.first);
    Give(function.second);
  }
  ffi::Bytes Taken() { return ffi::Bytes(std::move(bytes_)); }

 private:
  std::string bytes_;
};

ffi::Any Field(const ffi::ObjectRef& info, const char* name) {
  return ffi::reflection::FieldGetter("runtime.FunctionInfo", name)(info);
}

Signature SignatureOf(const ffi::ObjectRef& info) {
  Signature signature;
  signature.kernel = Field(info, "name").cast<ffi::String>();
  for (DLDataType type : Field(info, "arg_types").cast<ffi::Array<DLDataType>>()) signature.arguments.push_back(type);
  for (const ffi::String& tag : Field(info, "launch_param_tags").cast<ffi::Array<ffi::String>>()) {
    signature.launch.push_back(tag);
  }
  for (int64_t tag : Field(info, "arg_extra_tags").cast<ffi::Array<int64_t>>()) {
    signature.extra.push_back(static_cast<int32_t>(tag));
  }
  return signature;
}

}  // namespace

Contents Read(const ffi::Bytes& bytes) {
  Reader reader(bytes);
  Contents contents;
  reader.Take(&contents.format);
  reader.Take(&contents.functions);
  reader.Take(&contents.source);
  return contents;
}

ffi::Bytes Write(const Contents& contents) {
  Writer writer;
  writer.Give(contents.format);
  writer.Give(contents.functions);
  writer.Give(contents.source);
  return writer.Taken();
}

std::vector<std::pair<std::string, Signature>> Described(const ffi::Map<ffi::String, ffi::Any>& infos) {
  std::vector<std::pair<std::string, Signature>> functions;
  for (const auto& [name, info] : infos) functions.emplace_back(name, SignatureOf(info.cast<ffi::ObjectRef>()));
  return functions;
}

}  // namespace deeprebirth::opencl
