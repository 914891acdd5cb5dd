// Buffers for a kernel that nobody trusts: each lies between guard bands whose every byte is 0xff, which is NaN in f32,
// f16 and bf16 and -1 in an index, and behind the bands between pages that may not be touched. A short write outside shows
// in the bands, a short read gives NaN, a far one of either kind ends the process.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/attention_problem.hpp"
#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

class Fenced {
 public:
  explicit Fenced(std::size_t bytes);  // throws std::bad_alloc
  ~Fenced();
  Fenced(Fenced&& other) noexcept { swap(other); }
  Fenced& operator=(Fenced&&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  bool guards_intact() const;
  void fill_with_nan() const;  // every byte 0xff

 private:
  static constexpr std::size_t band = 4096;  // bytes on each side at least
  void swap(Fenced& other) noexcept {
    std::swap(map_, other.map_), std::swap(map_size_, other.map_size_);
    std::swap(data_, other.data_), std::swap(size_, other.size_);
  }

  std::byte *map_ = nullptr, *data_ = nullptr;
  std::size_t map_size_ = 0, size_ = 0;
};

// A copy of everything that a case's problem reads, fenced.
class FencedInputs {
 public:
  explicit FencedInputs(const Case& c);  // c must outlive it
  const AttentionProblem& problem() const { return problem_; }
  // What was written to that should only have been read: "q", "paged_kv_indices"; "" if nothing was.
  std::string modified() const;
  std::string written_around() const;  // the same, of the guard bands

 private:
  struct Input {
    std::string name;
    const void* original;
    Fenced copy;
  };
  const std::byte* add(const char* name, const void* data, std::size_t bytes);
  template <class T>
  std::span<const T> add(const char* name, std::span<const T> array);

  AttentionProblem problem_;
  std::vector<Input> inputs_;
};

}  // namespace flashladder::ladder
