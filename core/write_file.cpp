#include "core/write_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
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

// The names of files that are being written, where a signal handler can read them: fixed memory, no lock.
struct Unfinished {
  std::atomic<bool> taken = false, named = false;
  char path[4096];
};
Unfinished unfinished[8];

// Remembers a file until the end of its scope; a ninth at a time, or one with a longer name, is not remembered.
class Remembered {
 public:
  explicit Remembered(const fs::path& path) {
    const std::string& name = path.native();
    for (Unfinished& u : unfinished) {
      if (name.size() >= sizeof u.path || u.taken.exchange(true)) continue;
      std::memcpy(u.path, name.c_str(), name.size() + 1);
      u.named = true;
      mine_ = &u;
      return;
    }
  }
  ~Remembered() {
    if (mine_ == nullptr) return;
    mine_->named = false;
    mine_->taken = false;
  }
  Remembered(const Remembered&) = delete;
  Remembered& operator=(const Remembered&) = delete;

 private:
  Unfinished* mine_ = nullptr;
};

// A name that is unique on this machine, by process id and counter; O_EXCL settles the rest (a shared disk, a leftover).
fs::path aside_of(const fs::path& target) {
  static std::atomic<unsigned> counter{0};
  fs::path aside = target;
  aside += ".writing-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  return aside;
}

int create(const fs::path& path) { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }

// Where the bytes go: through symbolic links, also where the last one points at nothing yet.
fs::path target_of(fs::path path) {
  constexpr int most_links = 40;  // as the kernel has it
  std::error_code error;
  for (int i = 0; i < most_links && fs::is_symlink(fs::symlink_status(path, error)); ++i) {
    const fs::path next = fs::read_symlink(path, error);
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
  return path;
}

bool is_special(const fs::file_status& status) { return fs::exists(status) && !fs::is_regular_file(status); }

// Throws for what can never be written as a file; the status of what is at path.
fs::file_status checked_status(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (path.empty()) fail("\"\"", ENOENT);
  if (error.value() == ELOOP) fail(path, ELOOP);
  if (fs::is_directory(status)) fail(path, EISDIR);
  return status;
}

// The bytes in the file aside, with the mode of the file that it replaces; 0 or an errno.
int write_aside(int fd, const fs::path& target, std::string_view text) {
  struct stat old {};
  if (::stat(target.c_str(), &old) == 0 && ::fchmod(fd, old.st_mode & 07777) != 0) {
    const int error = errno;
    ::close(fd);
    return error;
  }
  return write_and_close(fd, text);
}

}  // namespace

void write_file_whole(const fs::path& path, std::string_view text) {
  if (is_special(checked_status(path))) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (const int error = fd < 0 ? errno : write_and_close(fd, text)) fail(path, error);
    return;
  }
  const fs::path target = target_of(path);
  for (;;) {
    const fs::path aside = aside_of(target);
    const Remembered remembered(aside);  // before it is there: a signal may come at any time
    const int fd = create(aside);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) fail(path, errno);
    int error = write_aside(fd, target, text);
    if (error == 0 && std::rename(aside.c_str(), target.c_str()) != 0) error = errno;
    if (error == 0) return;
    ::unlink(aside.c_str());
    fail(path, error);
  }
}

void require_writable(const fs::path& path) {
  if (is_special(checked_status(path))) {
    if (::access(path.c_str(), W_OK) != 0) fail(path, errno);
    return;
  }
  for (;;) {
    const fs::path aside = aside_of(target_of(path));
    const Remembered remembered(aside);
    const int fd = create(aside);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) fail(path, errno);
    ::close(fd);
    ::unlink(aside.c_str());
    return;
  }
}

void remove_unfinished_files() noexcept {
  for (const Unfinished& u : unfinished) {
    if (u.named) ::unlink(u.path);
  }
}

void write_file_whole(const fs::path& path, std::span<const std::byte> bytes) {
  write_file_whole(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace flashladder
