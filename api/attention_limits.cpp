#include <limits>
#include <string>

#include "api/attention_checks.hpp"
#include "core/error.hpp"

namespace flashladder::api {

void validate_limits(const AttentionLimits& limits, bool decode) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(limits.max_batch >= 0, "max_batch", limits.max_batch, "must not be negative");
  require(limits.max_pages >= 0 && limits.max_pages <= most, "max_pages", limits.max_pages, "must be 0 .. 2^31 - 1");
  if (decode) {
    require(!limits.max_nnz_qo, "max_nnz_qo", limits.max_nnz_qo.value_or(0),
            "must not be given: a decode has one query a request");
    require(!limits.max_qo_len, "max_qo_len", limits.max_qo_len.value_or(0),
            "must not be given: a decode has one query a request");
    return;
  }
  const std::int32_t most_qo_len = limits.max_qo_len.value_or(1);
  require(most_qo_len >= 1, "max_qo_len", most_qo_len, "must be at least 1, or not given");
  require(limits.max_nnz_qo.has_value(), "max_nnz_qo", "", "must be given: the queries of all requests together");
  require(*limits.max_nnz_qo >= 0 && *limits.max_nnz_qo <= most, "max_nnz_qo", *limits.max_nnz_qo,
          "must be 0 .. 2^31 - 1");
}

void require_within(const AttentionLimits& limits, const BatchLengths& lengths, bool decode) {
  const auto within = [](const char* what, std::int64_t has, std::int64_t most, const char* limit, int request = -1) {
    if (has > most) {
      throw InputError(what, std::to_string(has),
                       std::string("exceeds what was captured: ") + limit + " " + std::to_string(most), request);
    }
  };
  within("batch", static_cast<std::int64_t>(lengths.batch()), limits.max_batch, "max_batch");
  within(lengths.kv_indptr.empty() ? "pages" : "tokens", lengths.page_entries(), limits.max_pages, "max_pages");
  if (!decode) within("nnz_qo", lengths.qo_indptr.back(), limits.max_nnz_qo.value_or(0), "max_nnz_qo");
  for (std::size_t b = 0; limits.max_qo_len && b < lengths.batch(); ++b) {
    within("qo_len", std::int64_t{lengths.qo_indptr[b + 1]} - lengths.qo_indptr[b], *limits.max_qo_len, "max_qo_len",
           static_cast<int>(b));
  }
}

}  // namespace flashladder::api
