// Request lengths of a real service, in the form of Azure's public LLM inference traces: a CSV file of
// TIMESTAMP,ContextTokens,GeneratedTokens, one request a line, in the order of arrival.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flashladder::ladder {

struct TraceRequest {
  std::int32_t context_tokens, generated_tokens;
};

// Lines may end in CR LF. Throws InputError, naming `what` and the line, for another header, a missing or further field,
// or tokens that are no whole numbers, negative, or together more than 2^31 - 1. The time stamp is not interpreted.
std::vector<TraceRequest> parse_trace(std::string_view csv, const std::string& what);
std::vector<TraceRequest> read_trace(const std::string& path);

// KV lengths of `count` consecutive requests, as a batch caught while it is being served: ContextTokens plus a uniform part
// of GeneratedTokens. The same seed gives the same lengths. Throws InputError if the trace has fewer requests.
std::vector<std::int32_t> draw_kv_lens(const std::vector<TraceRequest>& trace, std::int32_t count, std::uint64_t seed);

}  // namespace flashladder::ladder
