// The process that runs a user's Python file (python_worker.py): started with one socket and one block of shared memory,
// asked in JSON. What ends that process ends this one in the same way, so that whoever watches this one sees it: the caller
// is itself a child that was made for one case (child.hpp).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>

#include "ladder/cases/input/json.hpp"

namespace flashladder::ladder {

extern const char* const python_worker;  // the text of python_worker.py

class PythonProcess {
 public:
  // Runs python3, or what the environment's FLASHLADDER_PYTHON names.
  explicit PythonProcess(const std::string& path);
  ~PythonProcess();
  PythonProcess(const PythonProcess&) = delete;
  PythonProcess& operator=(const PythonProcess&) = delete;

  Json ask(const Json& question);
  std::span<std::byte> share(std::size_t bytes);  // the block, made anew, so large; the last one's span ends

 private:
  [[noreturn]] void end_like_it() const;
  void send(const char* data, std::size_t size) const;
  void receive(char* data, std::size_t size) const;

  pid_t process_ = -1;
  int socket_ = -1, memory_ = -1;
  std::span<std::byte> shared_;
};

}  // namespace flashladder::ladder
