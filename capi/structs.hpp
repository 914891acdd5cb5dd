// The structs of the C interface on their way in and out: their sizes, which tell one version from another, and what the C++
// classes take in their place. Every refusal names the field.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "api/attention_config.hpp"
#include "api/batch_mla.hpp"
#include "api/operations.hpp"
#include "capi/flashladder.h"
#include "core/error.hpp"
#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/mla_problem.hpp"
#include "core/tensor.hpp"

namespace flashladder::capi {

// What each struct had in the first version that had it: no caller's is smaller. A struct grows at its end, these stay.
template <class Struct>
inline constexpr std::size_t first_size = 0;
template <> inline constexpr std::size_t first_size<fl_error> = 48;
template <> inline constexpr std::size_t first_size<fl_tensor> = 104;
template <> inline constexpr std::size_t first_size<fl_kv_cache> = 32;
template <> inline constexpr std::size_t first_size<fl_logits> = 40;
template <> inline constexpr std::size_t first_size<fl_attention_config> = 80;
template <> inline constexpr std::size_t first_size<fl_attention_limits> = 32;
template <> inline constexpr std::size_t first_size<fl_workspace> = 40;
template <> inline constexpr std::size_t first_size<fl_batch> = 80;
template <> inline constexpr std::size_t first_size<fl_attention_arguments> = 80;
template <> inline constexpr std::size_t first_size<fl_on> = 24;
template <> inline constexpr std::size_t first_size<fl_serving_call> = 128;
template <> inline constexpr std::size_t first_size<fl_mla_config> = 72;
template <> inline constexpr std::size_t first_size<fl_mla_cache> = 32;
template <> inline constexpr std::size_t first_size<fl_mla_arguments> = 56;
template <> inline constexpr std::size_t first_size<fl_mla_decode_call> = 96;
template <> inline constexpr std::size_t first_size<fl_page_lists> = 48;
template <> inline constexpr std::size_t first_size<fl_rope> = 24;
template <> inline constexpr std::size_t first_size<fl_page_copy> = 24;

template <class T>
T* require_pointer(T* pointer, const char* name) {
  require(pointer != nullptr, name, "NULL", "must not be NULL");
  return pointer;
}

// The size that a caller wrote into his struct. A forgotten one is a number of any size: far larger ones are not believed.
template <class Struct>
std::size_t size_of_given(const Struct* given, const char* name) {
  constexpr std::size_t first = first_size<Struct>, far_larger = 4096;
  static_assert(first > 0 && first <= sizeof(Struct) && sizeof(Struct) < far_larger);
  const std::size_t size = require_pointer(given, name)->size;
  if (size >= first && size < far_larger) return size;
  throw InputError(std::string(name) + ".size", std::to_string(size),
                   "must be sizeof the struct, " + std::to_string(sizeof(Struct)) + " in this version");
}

// A copy in which fields that the caller does not know are zero. Refused: fields that this library does not know, if set.
template <class Struct>
Struct read(const Struct* given, const char* name) {
  const std::size_t size = size_of_given(given, name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] == 0) continue;
    throw InputError(std::string(name) + ".size", std::to_string(size),
                     "has fields that this version of the library does not know, and they are not zero");
  }
  Struct copy{};
  std::memcpy(static_cast<void*>(&copy), given, std::min(size, sizeof(Struct)));
  if constexpr (requires { copy.reserved; }) {
    require(copy.reserved == 0, (std::string(name) + ".reserved").c_str(), copy.reserved, "must be 0");
  }
  if constexpr (requires { copy.reserved2; }) {
    require(copy.reserved2 == 0, (std::string(name) + ".reserved2").c_str(), copy.reserved2, "must be 0");
  }
  return copy;
}

// As much of it as the caller knows; his size stays.
template <class Struct>
void write(const Struct& from, Struct* out, const char* name) {
  const std::size_t size = std::min(size_of_given(out, name), sizeof(Struct));
  constexpr std::size_t after = sizeof from.size;
  std::memcpy(reinterpret_cast<unsigned char*>(out) + after, reinterpret_cast<const unsigned char*>(&from) + after,
              size - after);
}

// n elements; NULL is fine where there are none.
template <class T>
std::span<T> array(T* data, std::int64_t n, const char* name) {
  require(n >= 0, (std::string(name) + " size").c_str(), n, "must not be negative");
  if (n > 0) require_pointer(data, name);
  return {data, static_cast<std::size_t>(n)};
}
template <class T>
std::span<T> if_given(T* data, std::int64_t n) {
  return data == nullptr || n < 0 ? std::span<T>{} : std::span<T>{data, static_cast<std::size_t>(n)};
}

bool flag(std::int32_t value, const char* name);  // 0 or 1
template <class T>
T* out_pointer(T* out, const char* name = "out") {
  return require_pointer(out, name);
}

// Numbers of enums; a refusal says which there are.
DType dtype_of(std::int32_t dtype, const char* name);
Device device_of(std::int32_t device, const char* name);
KvLayout layout_of(std::int32_t layout, const char* name);

Tensor tensor_of(const fl_tensor* tensor, const char* name);
PagedKvCache paged_cache_of(const fl_kv_cache* cache);   // 5-D, or two of 4-D
PagedKvCache tokens_of(const fl_kv_cache* cache);        // 3-D each, NHD: a ragged cache
KvScales scales_of(const fl_kv_cache* cache, std::int64_t num_kv_heads);
PagedMlaCache mla_cache_of(const fl_mla_cache* cache);
MlaScales mla_scales_of(const fl_mla_cache* cache);
api::LogitsConfig logits_of(const fl_logits* logits);    // NULL: the defaults
api::AttentionConfig config_of(const fl_attention_config* config);
api::MlaConfig mla_config_of(const fl_mla_config* config);
api::AttentionLimits limits_of(const fl_attention_limits* limits);
api::On on_of(const fl_on* on);  // NULL: the CPU

// Spans of what the struct's numbers say.
struct PageLists {
  std::span<const std::int32_t> indptr, indices, last_page_len;
};
PageLists page_lists_of(const fl_page_lists* pages);

// A field that a caller left zero means what it means elsewhere.
constexpr float or_default(float given, float its_default) { return given == 0 ? its_default : given; }

// rows * num_qo_heads of a tensor that ends in [num_qo_heads, head_dim]; 0 of a wrong one, which its own check refuses.
std::int64_t rows_and_heads(const Tensor& q);
std::int64_t heads_of(const Tensor& q);
std::int64_t rows_of(const Tensor& t);  // its first size

}  // namespace flashladder::capi
