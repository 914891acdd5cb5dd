#include "ladder/cases/input/read_file.hpp"

#include <filesystem>
#include <fstream>

#include "core/error.hpp"
#include "ladder/cases/memory/memory.hpp"

namespace flashladder::ladder {

std::vector<std::byte> read_file(const std::string& path, std::size_t most) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  require(!path.empty(), "file name", "\"\"", "must not be empty");
  require(fs::exists(status), path.c_str(), "", "no such file");
  require(fs::is_regular_file(status), path.c_str(), "", "must be a regular file");
  const std::uintmax_t size = fs::file_size(path, error);
  require(!error, path.c_str(), "", "its size can't be read");
  if (size > most) throw InputError(path, bytes_text(size), "must be at most " + bytes_text(most));
  require_memory(size, path);

  std::vector<std::byte> bytes(size);
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), path.c_str(), "", "can't be opened for reading");
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  require(file.gcount() == static_cast<std::streamsize>(size), path.c_str(), "", "became shorter while it was read");
  return bytes;
}

}  // namespace flashladder::ladder
