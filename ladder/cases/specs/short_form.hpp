// The short forms of the command line: lists of lengths, heads and names. docs/case_format.md lists them for users.
//
//   512,1024            these lengths                    2048x32            2048, thirty-two times
//   lognormal:64        64 lengths, round(e^N(6.9, 1.3)) kept within 16 .. 32768: a skewed batch
//   azure-conv:64       64 consecutive requests of Azure's conversation trace; azure-code:64 of its code trace (trace.hpp)
//   lognormal:64:7      ... drawn from seed 7; so for the traces
//   @lengths.txt        the lengths in a file, separated by commas or white space
// Items may be joined by commas: 65536,4096x31. The same text and seed give the same lengths on every machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/kv_cache.hpp"
#include "core/tensor.hpp"

namespace flashladder::ladder {

inline constexpr std::int32_t most_requests = 1 << 20;  // in one list: "1x2000000000" is a mistake

struct LengthSources {
  std::string data_dir = "data";  // has azure_conv_sample.csv and azure_code_sample.csv
  std::string trace;              // a trace file to draw from instead
  std::uint64_t seed = 1;         // of what names no seed
};

// `option` ("--kv") names the text in errors; every InputError shows the part that is wrong.
std::vector<std::int32_t> parse_lengths(const std::string& option, std::string_view text, const LengthSources& sources = {});

// Query lengths for a batch: none = 1 each (decode), one = that for each, otherwise one for each request.
std::vector<std::int32_t> qo_lens_for(const std::vector<std::int32_t>& qo_lens, std::int32_t batch);

struct Heads {
  std::int32_t num_qo_heads, num_kv_heads;
};
Heads parse_heads(const std::string& option, std::string_view text);  // "32/8"; "32" is 32/32

struct HeadDims {
  std::int32_t qk, vo;
};
HeadDims parse_head_dims(const std::string& option, std::string_view text);  // "128"; "192/128" is qk/vo

DType parse_dtype(const std::string& option, std::string_view text);
// Nothing where K and V have q's; "" is that too.
std::optional<DType> parse_kv_dtype(const std::string& option, std::string_view text, DType dtype);         // f32, f16, bf16
KvLayout parse_kv_layout(const std::string& option, std::string_view text);  // NHD, HND

}  // namespace flashladder::ladder
