// Output files appear whole or not at all: the bytes are written aside, in the same directory under a name nobody else
// has, and renamed into place. A program that dies, a full disk or a missing directory never leave half a file behind.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace flashladder {

// Replaces the file at path and keeps its mode, or creates it; a symbolic link keeps pointing at its (replaced or new)
// target. What is there and is no regular file (a pipe, /dev/stdout) is written to directly.
// Throws std::system_error that names path; then what was at path before is still there, and nothing else is.
void write_file_whole(const std::filesystem::path& path, std::string_view text);
void write_file_whole(const std::filesystem::path& path, std::span<const std::byte> bytes);

// Throws what write_file_whole() would throw now: for a program that finds out before its work, not after. Leaves nothing.
void require_writable(const std::filesystem::path& path);

// Removes the files aside of all writes that are under way. For a signal handler that ends the program (a library installs
// none): takes no lock and no memory.
void remove_unfinished_files() noexcept;

}  // namespace flashladder
