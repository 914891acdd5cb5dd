#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <system_error>

#include "core/error.hpp"
#include "ladder/plugin/python_worker.hpp"

namespace flashladder::ladder {
namespace {

constexpr int no_such_program = 127;  // as shells have it

int succeeded(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

std::string interpreter() {
  const char* chosen = std::getenv("FLASHLADDER_PYTHON");
  return chosen == nullptr || *chosen == '\0' ? "python3" : chosen;
}

}  // namespace

PythonProcess::PythonProcess(const std::string& path) {
  int ends[2];
  succeeded(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
  memory_ = succeeded(memfd_create("flashladder plug-in", 0), "memfd_create");
  const std::string python = interpreter(), its_socket = std::to_string(ends[1]), its_memory = std::to_string(memory_);
  const char* const arguments[] = {python.c_str(), "-c", python_worker, its_socket.c_str(), its_memory.c_str(), path.c_str(),
                                   nullptr};
  process_ = succeeded(fork(), "fork");
  if (process_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ends[0]);
    execvp(arguments[0], const_cast<char* const*>(arguments));
    _exit(no_such_program);
  }
  socket_ = ends[0];
  close(ends[1]);  // so that its end is seen
}

PythonProcess::~PythonProcess() {
  if (shared_.data() != nullptr) munmap(shared_.data(), shared_.size());
  close(socket_);
  close(memory_);
  kill(process_, SIGKILL);  // all is answered; threads that it left running would keep it alive
  waitpid(process_, nullptr, 0);
}

void PythonProcess::end_like_it() const {
  int status = 0;
  waitpid(process_, &status, 0);
  if (WIFSIGNALED(status)) {
    std::signal(WTERMSIG(status), SIG_DFL);
    std::raise(WTERMSIG(status));
  }
  if (WEXITSTATUS(status) == no_such_program) {
    throw InputError("--plugin", "", "needs Python, and " + interpreter() +
                     " can't be run: the environment's FLASHLADDER_PYTHON names another");
  }
  _exit(WEXITSTATUS(status));
}

void PythonProcess::send(const char* data, std::size_t size) const {
  while (size > 0) {
    const ssize_t sent = ::send(socket_, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) end_like_it();
    data += sent, size -= static_cast<std::size_t>(sent);
  }
}

void PythonProcess::receive(char* data, std::size_t size) const {
  while (size > 0) {
    const ssize_t got = recv(socket_, data, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) end_like_it();
    data += got, size -= static_cast<std::size_t>(got);
  }
}

Json PythonProcess::ask(const Json& question) {
  const std::string text = json_text(question, "a question");
  std::uint64_t size = text.size();  // little-endian, as every machine that this is built for
  send(reinterpret_cast<const char*>(&size), sizeof size);
  send(text.data(), text.size());
  receive(reinterpret_cast<char*>(&size), sizeof size);
  std::string answer(size, '\0');
  receive(answer.data(), answer.size());
  return parse_json(answer, "the answer of the Python process", 4);
}

std::span<std::byte> PythonProcess::share(std::size_t bytes) {
  if (shared_.data() != nullptr) munmap(shared_.data(), shared_.size());
  shared_ = {};
  succeeded(ftruncate(memory_, static_cast<off_t>(bytes)), "ftruncate");
  void* map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  return shared_ = {static_cast<std::byte*>(map), bytes};
}

}  // namespace flashladder::ladder
