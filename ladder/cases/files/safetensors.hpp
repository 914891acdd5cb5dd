// The safetensors container: 8 bytes of header length (little endian), a JSON header that names each tensor's dtype, shape
// and place, then the data, without gaps. (The format's public description, huggingface.co/docs/safetensors.)
// Nothing in a file is believed: every rule of the format is checked before a tensor is handed out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace flashladder::ladder {

enum class FileDType : std::uint8_t { F64, F32, F16, BF16, I64, I32, U8, BOOL, F8_E4M3, F8_E5M2 };

constexpr const char* name_of(FileDType t) {
  constexpr const char* names[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2"};
  return names[static_cast<int>(t)];
}
constexpr std::size_t size_of(FileDType t) {
  constexpr std::size_t bytes[] = {8, 4, 2, 2, 8, 4, 1, 1, 1, 1};
  return bytes[static_cast<int>(t)];
}

struct FileTensor {
  FileDType dtype = FileDType::F32;
  std::vector<std::int64_t> shape;      // row-major; {} is a scalar
  std::span<const std::byte> bytes;     // borrowed, of any alignment: copy before use
};

struct Safetensors {
  std::map<std::string, std::string> metadata;
  std::map<std::string, FileTensor> tensors;
};

// The tensors borrow from `file`. Throws InputError that names `what`, the tensor and the rule: a header length beyond the
// file or 100 MB, a header that is no JSON object, a key given twice, metadata that are no strings, a dtype that is not
// listed above, a shape that is no list of whole numbers or overflows, offsets that leave a gap, overlap,
// leave the file or contradict dtype * shape, bytes that belong to no tensor.
Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& what);

// The file's bytes; tensors of wider elements come first, so that each is aligned for its dtype. Throws InputError if a
// name is not UTF-8.
std::vector<std::byte> safetensors_bytes(const Safetensors& contents, const std::string& what);

}  // namespace flashladder::ladder
