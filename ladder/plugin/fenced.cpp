#include "ladder/plugin/fenced.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace flashladder::ladder {
namespace {

constexpr std::byte painted{0xff};

bool all_painted(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte b) { return b == painted; });
}

}  // namespace

Fenced::Fenced(std::size_t bytes) : size_(bytes) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t inside = (band + bytes + band + page - 1) / page * page;
  map_size_ = inside + 2 * page;
  void* map = mmap(nullptr, map_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<std::byte*>(map);
  data_ = map_ + page + band;
  std::fill(map_ + page, map_ + page + inside, painted);
  mprotect(map_, page, PROT_NONE);
  mprotect(map_ + page + inside, page, PROT_NONE);
}

Fenced::~Fenced() {
  if (map_ != nullptr) munmap(map_, map_size_);
}

bool Fenced::guards_intact() const {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return all_painted(map_ + page, data_) && all_painted(data_ + size_, map_ + map_size_ - page);
}

void Fenced::fill_with_nan() const { std::fill_n(data_, size_, painted); }

const std::byte* FencedInputs::add(const char* name, const void* data, std::size_t bytes) {
  Fenced copy(bytes);
  if (bytes > 0) std::memcpy(copy.data(), data, bytes);
  inputs_.push_back({name, data, std::move(copy)});
  return inputs_.back().copy.data();
}

template <class T>
std::span<const T> FencedInputs::add(const char* name, std::span<const T> array) {
  if (array.empty()) return {};
  return {reinterpret_cast<const T*>(add(name, array.data(), array.size_bytes())), array.size()};
}

FencedInputs::FencedInputs(const Case& c) : problem_(c.problem()) {
  const auto moved = [&](const char* name, const OwnedTensor& t) {
    return const_cast<std::byte*>(add(name, t.bytes.data(), t.bytes.size()));
  };
  problem_.q.data = moved("q", c.q);
  if (c.spec.one_cache_tensor()) {
    std::byte* cache = moved("kv_cache", c.kv_cache);
    problem_.kv.k = cache + (static_cast<std::byte*>(problem_.kv.k) - c.kv_cache.bytes.data());
    problem_.kv.v = cache + (static_cast<std::byte*>(problem_.kv.v) - c.kv_cache.bytes.data());
  } else {
    problem_.kv.k = moved("k_cache", c.k_cache);
    problem_.kv.v = moved("v_cache", c.v_cache);
  }
  problem_.qo_indptr = add("qo_indptr", problem_.qo_indptr);
  problem_.paged_kv_indptr = add("paged_kv_indptr", problem_.paged_kv_indptr);
  problem_.paged_kv_indices = add("paged_kv_indices", problem_.paged_kv_indices);
  problem_.paged_kv_last_page_len = add("paged_kv_last_page_len", problem_.paged_kv_last_page_len);
  problem_.custom_mask = add("custom_mask", problem_.custom_mask);
  problem_.sinks = add("sinks", problem_.sinks);
  problem_.block_tables = add("block_tables", problem_.block_tables);
  problem_.seq_lens = add("seq_lens", problem_.seq_lens);
}

std::string FencedInputs::modified() const {
  for (const Input& input : inputs_) {
    if (input.copy.size() > 0 && std::memcmp(input.copy.data(), input.original, input.copy.size()) != 0) return input.name;
  }
  return "";
}

std::string FencedInputs::written_around() const {
  for (const Input& input : inputs_) {
    if (!input.copy.guards_intact()) return input.name;
  }
  return "";
}

}  // namespace flashladder::ladder
