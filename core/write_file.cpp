#include "core/write_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

namespace flashladder {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, int error) {
  throw std::system_error(error, std::generic_category(), "cannot write " + path.string());
}

// Returns 0 or the errno of the first failure. Closes fd in any case; close reports what a network disk refused late.
int write_and_close(int fd, std::string_view bytes) {
  int error = 0;
  while (!bytes.empty() && error == 0) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      error = written == 0 ? ENOSPC : errno;
    }
  }
  if (::close(fd) != 0 && error == 0) error = errno;
  return error;
}

struct Aside {
  fs::path path;
  int fd;
};

// Process id and counter make the name unique on this machine; O_EXCL settles the rest (a shared disk, a leftover).
Aside create_aside(const fs::path& target) {
  static std::atomic<unsigned> counter{0};
  for (;;) {
    fs::path aside = target;
    aside += ".writing-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    const int fd = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return {aside, fd};
    if (errno != EEXIST) return {aside, -errno};
  }
}

}  // namespace

void write_file_whole(const fs::path& path, std::string_view text) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::is_directory(status)) fail(path, EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (const int error = fd < 0 ? errno : write_and_close(fd, text)) fail(path, error);
    return;
  }
  const fs::path target = fs::exists(status) ? fs::canonical(path) : path;
  const Aside aside = create_aside(target);
  if (aside.fd < 0) fail(path, -aside.fd);
  int error = write_and_close(aside.fd, text);
  if (error == 0 && std::rename(aside.path.c_str(), target.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(aside.path.c_str());
    fail(path, error);
  }
}

void write_file_whole(const fs::path& path, std::span<const std::byte> bytes) {
  write_file_whole(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace flashladder
