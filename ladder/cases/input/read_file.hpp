// A whole file in memory, its size known before a byte is read.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flashladder::ladder {

// What people write by hand or export as text: case tables, traces, lists of lengths.
inline constexpr std::size_t most_text_bytes = 64u << 20;

// Throws InputError, naming path, if there is no such regular file, if it can't be read whole, if it is larger than `most`
// or than memory.
std::vector<std::byte> read_file(const std::string& path, std::size_t most);

inline std::string_view as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace flashladder::ladder
