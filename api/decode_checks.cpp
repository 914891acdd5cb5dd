#include "api/decode_checks.hpp"

#include <string>

#include "core/error.hpp"
#include "core/validate.hpp"

namespace flashladder::api {
namespace {

// Sentences are put together only for a refusal: run() is called for every layer.
void require_equal(std::int64_t value, std::int64_t wanted, const char* argument, const char* of_what) {
  if (value == wanted) return;
  throw InputError(argument, std::to_string(value), std::string("must be ") + of_what + " (" + std::to_string(wanted) + ")");
}

std::string dtype_name(DType t) { return t <= DType::u8 ? name_of(t) : std::to_string(static_cast<int>(t)); }

void require_dtype(DType has, DType wanted, const char* argument, const char* of_what) {
  if (has == wanted) return;
  throw InputError(argument, dtype_name(has), std::string("must be ") + of_what + " (" + name_of(wanted) + ")");
}

void require_data(const void* data, bool needed, const char* argument) {
  require(data != nullptr || !needed, argument, "null", "must point to data, since its size is not 0");
}

// What messages call the dimensions of q and o.
struct RowNames {
  const char *tensor, *rank, *dtype, *rows, *heads, *dim, *stride;
};
constexpr RowNames q_names{"q", "q rank", "q dtype", "q shape[0]", "q shape[1]", "q shape[2]", "q stride"};
constexpr RowNames o_names{"o", "o rank", "o dtype", "o shape[0]", "o shape[1]", "o shape[2]", "o stride"};

void check_rows(const Tensor& t, const RowNames& names, const DecodeConfig& c, DType dtype, std::int32_t rows) {
  require(t.rank == 3, names.rank, t.rank, "must be 3: [batch, num_qo_heads, head_dim]");
  require_dtype(t.dtype, dtype, names.dtype, "that of the config");
  require_equal(t.shape[0], rows, names.rows, "the number of requests that were planned, or max_batch of a graph");
  require_equal(t.shape[1], c.num_qo_heads, names.heads, "num_qo_heads");
  require_equal(t.shape[2], c.head_dim, names.dim, "head_dim");
  const bool dense = t.strides[2] == 1 && t.strides[1] == c.head_dim &&
                     (rows <= 1 || t.strides[0] == std::int64_t{c.num_qo_heads} * c.head_dim);
  require(rows == 0 || dense, names.stride, t.strides[0],
          "must be dense: one row of num_qo_heads * head_dim after the other");
  require_data(t.data, rows > 0, names.tensor);
}

void check_cache(const PagedKvCache& kv, const DecodeConfig& c) {
  require_dtype(kv.dtype, c.dtype, "kv cache dtype", "that of the config");
  require_equal(kv.num_kv_heads, c.num_kv_heads, "kv cache num_kv_heads", "that of the config");
  require_equal(kv.page_size, c.page_size, "kv cache page_size", "that of the config");
  require_equal(kv.head_dim_qk, c.head_dim, "k cache head_dim", "that of the config");
  require_equal(kv.head_dim_vo, c.head_dim, "v cache head_dim", "that of the config");
  require(kv.num_pages >= 0, "num_pages", kv.num_pages, "must not be negative");
  require_data(kv.k, kv.num_pages > 0, "k cache");
  require_data(kv.v, kv.num_pages > 0, "v cache");
}

}  // namespace

void validate(const DecodeConfig& config) {
  flashladder::validate(config.params());
  require(config.page_size >= 1, "page_size", config.page_size, "must be at least 1");
  require(is_attention_dtype(config.dtype), "dtype", dtype_name(config.dtype), "must be f32, f16 or bf16");
  if (config.output_dtype() != DType::f32) require_dtype(config.output_dtype(), config.dtype, "o_dtype", "f32 or dtype");
  require(config.threads >= 0 && config.threads <= 1 << 12, "threads", config.threads, "must be 1 .. 4096, or 0 for all");
}

void require_within(const DecodeLimits& limits, std::span<const std::int32_t> paged_kv_indptr) {
  const auto batch = static_cast<std::int64_t>(paged_kv_indptr.size()) - 1;
  const std::int64_t pages = paged_kv_indptr.back();
  if (batch <= limits.max_batch && pages <= limits.max_pages) return;
  const bool batch_exceeds = batch > limits.max_batch;
  throw InputError(batch_exceeds ? "batch" : "pages", std::to_string(batch_exceeds ? batch : pages),
                   "exceeds what was captured: max_batch " + std::to_string(limits.max_batch) + ", max_pages " +
                       std::to_string(limits.max_pages));
}

std::span<const std::int32_t> checked_indices(std::span<const std::int32_t> paged_kv_indices, std::int32_t pages) {
  const auto size = static_cast<std::int64_t>(paged_kv_indices.size());
  if (size < pages) require_equal(size, pages, "paged_kv_indices size", "at least the last entry of paged_kv_indptr");
  require_data(paged_kv_indices.data(), pages > 0, "paged_kv_indices");
  return paged_kv_indices.first(static_cast<std::size_t>(pages));
}

void check(const DecodeArguments& a, const DecodeConfig& config, std::int32_t rows) {
  check_rows(a.q, q_names, config, config.dtype, rows);
  check_cache(a.kv, config);
  check_rows(a.output.o, o_names, config, config.output_dtype(), rows);
  const auto lse_size = static_cast<std::int64_t>(a.output.lse_log2.size());
  if (lse_size != 0) require_equal(lse_size, std::int64_t{rows} * config.num_qo_heads, "lse_log2 size",
                                   "rows of o * num_qo_heads, or 0 if not wanted");
  require_data(a.output.lse_log2.data(), lse_size != 0, "lse_log2");
  const auto sinks = static_cast<std::int64_t>(a.sinks.size());
  require_equal(sinks, config.sinks ? config.num_qo_heads : 0, "sinks size",
                config.sinks ? "num_qo_heads, since config.sinks is on" : "0, since config.sinks is off");
  require_data(a.sinks.data(), sinks > 0, "sinks");
}

AttentionParams DecodeConfig::params() const {
  return {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim, .head_dim_vo = head_dim,
          .sm_scale = sm_scale.value_or(head_dim > 0 ? default_sm_scale(head_dim) : 1.0f), .window_left = window_left,
          .logits_soft_cap = logits_soft_cap, .pos_encoding_mode = pos_encoding_mode, .rope_scale = rope_scale,
          .rope_theta = rope_theta, .sinks = sinks};
}

}  // namespace flashladder::api
