// Memory that a thread keeps from call to call: an operation allocates only where a call is larger than every one before.
//   kept<float, struct Weight>(n)    n floats for this purpose, with anything in them; valid until the thread asks again
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flashladder::reference {

template <class T, class Purpose>
std::span<T> kept(std::int64_t n) {
  thread_local std::vector<T> memory;
  const auto size = static_cast<std::size_t>(n);
  if (memory.size() < size) memory.resize(size);
  return {memory.data(), size};
}

}  // namespace flashladder::reference
