// What FlashInfer's calls over a block table are made of (serving_calls.cpp, serving_mla.cpp): a config, a batch and run()'s
// arguments, for an object that a thread keeps.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "api/attention_backend.hpp"
#include "api/attention_config.hpp"

namespace flashladder::api {

// A call whose lengths lie on the device says max_seq_len in its lengths, and of a prefill most_queries.
struct ServingCall {
  AttentionConfig config;
  BatchLengths lengths;
  AttentionArguments arguments;
  std::vector<std::int32_t> qo_indptr{};  // of a prefill whose call has other numbers
  std::int32_t queries = 1;               // of a decode: of every request
  std::vector<std::uint8_t> packed_mask{};  // of a prefill whose call has no custom mask as run() takes it
};

WorkspaceBytes serving_bytes(const ServingCall& call);
void attend_served(const ServingCall& call, const Workspace& workspace, const On& on);

// Makes a prefill of a decode with so many queries, by a draft's mask (serving_calls.hpp). most_is: what the call names the
// most keys of a request.
void mask_drafts(ServingCall& call, std::span<const std::uint32_t> mask, const char* most_is);

// InputError unless it is finite and greater than 0.
void require_scale(float scale, const char* argument);
// block_tables [batch, max_pages]; tables, lens: what the call names them.
BlockTableLengths table_of(std::span<const std::int32_t> block_tables, std::span<const std::int32_t> seq_lens,
                           const char* tables, const char* lens);
// The longest request: a bound of the lengths may be wider than the table, a model's own.
std::int32_t most_in(const BlockTableLengths& table, std::int32_t page_size,
                     std::int32_t max_seq_len = std::numeric_limits<std::int32_t>::max());

}  // namespace flashladder::api
