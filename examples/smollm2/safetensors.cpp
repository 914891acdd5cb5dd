#include "safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace fl = flashladder;

// As much of JSON as such a header has: objects, strings without escapes, lists of whole numbers.
struct JsonScanner {
  const char *at, *end;

  bool accept(char c) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t')) ++at;
    if (at == end || *at != c) return false;
    ++at;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) throw std::runtime_error(std::string("its header has no '") + c + "' where one must be");
  }
  std::string string() {
    expect('"');
    const char* begin = at;
    while (at < end && *at != '"' && *at != '\\') ++at;
    const std::string value(begin, at);
    expect('"');
    return value;
  }
  std::vector<std::int64_t> numbers() {
    std::vector<std::int64_t> values;
    expect('[');
    while (!accept(']')) {
      accept(',');
      accept(' ');
      std::int64_t value = 0;
      const char* begin = at;
      for (; at < end && *at >= '0' && *at <= '9' && at - begin < 18; ++at) value = value * 10 + (*at - '0');
      if (at == begin) throw std::runtime_error("its header has no whole number where one must be");
      values.push_back(value);
    }
    return values;
  }
  // Calls member(name) in front of each value.
  template <class Member>
  void object(Member&& member) {
    expect('{');
    while (!accept('}')) {
      accept(',');
      const std::string name = string();
      expect(':');
      member(name);
    }
  }
};

Safetensors::Safetensors(const std::string& path) : path_(path) {
  const int file = ::open(path.c_str(), O_RDONLY);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) {
    const std::string reason = std::strerror(errno);
    if (file >= 0) ::close(file);
    fail(reason);
  }
  size_ = static_cast<std::size_t>(status.st_size);
  mapped_ = ::mmap(nullptr, std::max<std::size_t>(size_, 1), PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (mapped_ == MAP_FAILED) fail(std::strerror(errno));
  try {
    read_header(static_cast<const char*>(mapped_), size_);
  } catch (const std::exception& wrong) {
    ::munmap(mapped_, size_);
    fail(wrong.what());
  }
}

Safetensors::~Safetensors() { ::munmap(mapped_, size_); }

void Safetensors::fail(const std::string& what) const { throw std::runtime_error(path_ + ": " + what); }

void Safetensors::read_header(const char* data, std::size_t bytes) {
  std::uint64_t length = 0;
  if (bytes < sizeof length) throw std::runtime_error("is too short to be a safetensors file");
  std::memcpy(&length, data, sizeof length);
  if (length > bytes - sizeof length) throw std::runtime_error("its header is longer than the file");
  const char* begin = data + sizeof length;
  JsonScanner json{begin, begin + length};
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      json.object([&](const std::string& note) { notes_[note] = json.string(); });
    } else {
      read_tensor(json, name, begin + length, bytes - sizeof length - length);
    }
  });
}

void Safetensors::read_tensor(JsonScanner& json, const std::string& name, const char* data, std::size_t bytes) {
  fl::ConstTensor t;
  std::vector<std::int64_t> shape, offsets;
  json.object([&](const std::string& field) {
    if (field == "dtype") {
      const std::string dtype = json.string();
      if (dtype != "F32" && dtype != "I32" && dtype != "U8") {
        throw std::runtime_error(name + ": dtype " + dtype + ": must be F32, I32 or U8");
      }
      t.dtype = dtype == "F32" ? fl::DType::f32 : dtype == "I32" ? fl::DType::i32 : fl::DType::u8;
    } else {
      (field == "shape" ? shape : offsets) = json.numbers();
    }
  });
  if (shape.empty() || shape.size() > 2 || offsets.size() != 2) {
    throw std::runtime_error(name + ": must have one or two dimensions and two data_offsets");
  }
  for (const std::int64_t extent : shape) {  // so that their product can't wrap
    if (extent > 1 << 30) throw std::runtime_error(name + ": its shape must be below 2^30");
  }
  t = shape.size() == 1 ? fl::contiguous(static_cast<const void*>(nullptr), t.dtype, {shape[0]})
                        : fl::contiguous(static_cast<const void*>(nullptr), t.dtype, {shape[0], shape[1]});
  const bool inside = offsets[0] <= offsets[1] && static_cast<std::uint64_t>(offsets[1]) <= bytes;
  if (!inside || offsets[1] - offsets[0] != t.size() * static_cast<std::int64_t>(size_of(t.dtype))) {
    throw std::runtime_error(name + ": its bytes must lie in the file and be as many as its shape says");
  }
  t.data = data + offsets[0];
  if (reinterpret_cast<std::uintptr_t>(t.data) % size_of(t.dtype) != 0) throw std::runtime_error(name + ": is not aligned");
  tensors_[name] = t;
}

fl::ConstTensor Safetensors::tensor(const std::string& name, fl::DType dtype,
                                    std::initializer_list<std::int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail("has no tensor " + name);
  const fl::ConstTensor& t = found->second;
  bool same = t.dtype == dtype && t.rank == static_cast<int>(shape.size());
  std::string wanted, has;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::int64_t want = shape.begin()[i];
    same = same && (want == -1 || t.shape[i] == want);
    wanted += (i ? ", " : "") + (want == -1 ? "any" : std::to_string(want));
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(t.rank); ++i) has += (i ? ", " : "") + std::to_string(t.shape[i]);
  if (!same) fail(name + " [" + has + "] " + name_of(t.dtype) + ": must be [" + wanted + "] " + name_of(dtype));
  return t;
}

std::span<const std::int32_t> Safetensors::integers(const std::string& name) const {
  const fl::ConstTensor t = tensor(name, fl::DType::i32, {-1});
  return {t.data_as<const std::int32_t>(), static_cast<std::size_t>(t.size())};
}

std::string Safetensors::text(const std::string& note) const {
  const auto found = notes_.find(note);
  if (found == notes_.end()) fail("has no note " + note);
  return found->second;
}

double Safetensors::number(const std::string& note) const {
  const std::string value = text(note);
  char* end = nullptr;
  const double n = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !(n >= 0 && n <= 1 << 30)) {
    fail(note + " = " + value + ": must be a number, 0 .. 2^30");
  }
  return n;
}
