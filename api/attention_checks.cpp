#include "api/attention_checks.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/checks.hpp"
#include "core/mla_append.hpp"
#include "core/op_checks.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::api {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

void require_dtype(DType has, DType wanted, const char* argument, const char* of_what) {
  if (has == wanted) return;
  throw InputError(argument, dtype_name(has), std::string("must be ") + of_what + " (" + name_of(wanted) + ")");
}

void check_cache(const PagedKvCache& kv, const AttentionConfig& c) {
  require_dtype(kv.dtype, c.cache.dtype, "kv cache dtype", "that of the config");
  require_equal(kv.num_kv_heads, c.heads.num_kv_heads, "kv cache num_kv_heads", "that of the config");
  require_equal(kv.page_size, c.cache.page_size, "kv cache page_size", "that of the config");
  require_equal(kv.head_dim_qk, c.heads.head_dim_qk, "k cache head_dim", "head_dim_qk of the config");
  require_equal(kv.head_dim_vo, c.heads.dim_vo(), "v cache head_dim", "head_dim_vo of the config");
  require(kv.num_pages >= 0, "num_pages", kv.num_pages, "must not be negative");
  require_data(kv.k, kv.num_pages > 0, "k cache");
  require_data(kv.v, kv.num_pages > 0, "v cache");
}

// q and o have as many rows as were planned; a graph's as many as it was captured for.
RowsRule rule_of(const char* name, const AttentionConfig& c, const AttentionSession::Kind& kind,
                 const BatchLengths& planned) {
  const std::int64_t rows = planned.most_queries ? planned.most_queries->nnz_qo : planned.qo_indptr.back();
  RowsRule rule{.name = name, .nnz_qo = rows, .nnz_qo_is = "the last entry of qo_indptr", .num_qo_heads = c.heads.num_qo_heads,
                .head_dim = c.heads.head_dim_qk, .head_dim_is = "head_dim_qk"};
  if (kind.decode) rule.nnz_qo_is = "the number of requests that were planned";
  if (kind.queries > 1) rule.nnz_qo_is = "that of the requests that were planned, times q_len_per_req";
  if (planned.most_queries) rule.nnz_qo_is = "max_nnz_qo of the plan";
  if (kind.graph) {
    rule.nnz_qo = kind.decode ? kind.graph->max_batch : kind.graph->max_nnz_qo.value_or(0);
    rule.nnz_qo_is = kind.decode ? "max_batch of the graph" : "max_nnz_qo of the graph";
  }
  return rule;
}

// What is written may overlap nothing, but o may be q itself: every executor reads a row of q before it writes that row
// of o.
void check_memory(const AttentionArguments& a) {
  const ConstTensor k = k_pool(a.kv), v = v_pool(a.kv);
  check_same_or_apart("o", a.output.o, "q", a.q);
  check_apart("o", a.output.o, "the k cache", k);
  check_apart("o", a.output.o, "the v cache", v);
  const std::span<float> lse = a.output.lse();
  const ConstTensor written = contiguous(lse.data(), DType::f32, {static_cast<std::int64_t>(lse.size())});
  const char* name = a.output.lse_name();
  check_apart(name, written, "o", a.output.o);
  check_apart(name, written, "q", a.q);
  check_apart(name, written, "the k cache", k);
  check_apart(name, written, "the v cache", v);
  for (const auto& [scale_name, scales] : {std::pair("k_scale_per_head", a.scales.k_per_head),
                                           std::pair("v_scale_per_head", a.scales.v_per_head)}) {
    check_apart("o", a.output.o, scale_name, scales);
    check_apart(name, written, scale_name, scales);
  }
}

// Latent attention's: of head_dim_qk features head_dim_vo are those of q_nope and ckv.
void check_latent_cache(const PagedMlaCache& cache, const AttentionConfig& c) {
  require_dtype(cache.dtype, c.cache.dtype, "ckv cache dtype", "that of the config");
  require_equal(cache.page_size, c.cache.page_size, "ckv cache page_size", "that of the config");
  require_equal(cache.head_dim_ckv, c.heads.dim_vo(), "ckv cache head_dim", "head_dim_ckv of the config");
  require_equal(cache.head_dim_kpe, c.heads.head_dim_qk - c.heads.dim_vo(), "kpe cache head_dim",
                "head_dim_kpe of the config");
  require(cache.num_pages >= 0, "num_pages", cache.num_pages, "must not be negative");
  require_data(cache.ckv, cache.num_pages > 0, "ckv cache");
  require_data(cache.kpe, cache.num_pages > 0 && cache.head_dim_kpe > 0, "kpe cache");
}

// o may be q_nope itself.
void check_latent_memory(const AttentionArguments& a) {
  const LatentTensors& latent = *a.latent;
  const PagedKvCache pools = as_kv_cache(latent.cache);
  const std::span<float> lse = a.output.lse();
  const ConstTensor lse_out = contiguous(lse.data(), DType::f32, {static_cast<std::int64_t>(lse.size())});
  check_same_or_apart("o", a.output.o, "q_nope", a.q);
  check_apart(a.output.lse_name(), lse_out, "q_nope", a.q);
  check_apart(a.output.lse_name(), lse_out, "o", a.output.o);
  for (const auto& [name, written] : {std::pair<const char*, ConstTensor>{"o", a.output.o}, {a.output.lse_name(), lse_out}}) {
    check_apart(name, written, "q_pe", latent.q_pe);
    check_apart(name, written, "the ckv cache", k_pool(pools));
    check_apart(name, written, "the kpe cache", v_pool(pools));
  }
}

void check_latent(const AttentionArguments& a, const AttentionConfig& c, const AttentionSession::Kind& kind,
                  const BatchLengths& planned) {
  const std::int32_t ckv = c.heads.dim_vo();
  RowsRule rule = rule_of("q_nope", c, kind, planned);
  rule.head_dim = ckv, rule.head_dim_is = "head_dim_ckv";
  validate_rows(a.q, rule);
  require_dtype(a.q.dtype, c.dtype_of_q(), "q_nope dtype", "that of the config");
  RowsRule pe = rule;
  pe.name = "q_pe", pe.head_dim = c.heads.head_dim_qk - ckv, pe.head_dim_is = "head_dim_kpe";
  validate_rows(a.latent->q_pe, pe);
  require_dtype(a.latent->q_pe.dtype, c.dtype_of_q(), "q_pe dtype", "that of the config");
  check_latent_cache(a.latent->cache, c);
  validate(a.latent->scales, c.params().sm_scale);
  rule.name = "o";
  validate_written_rows(a.output.o, rule);
  require_dtype(a.output.o.dtype, c.dtype_of_o(), "o dtype", "that of the config");
  check_latent_memory(a);
  validate_lse(a.output, rule.nnz_qo * c.heads.num_qo_heads, "rows of o * num_heads, or 0 if not wanted");
}

// A ragged cache has the tokens that were planned, or more; a graph's those of the largest batch: a replay reads the k and v
// of the capture. (A single call's k is its request.)
void check_tokens(const PagedKvCache& kv, const AttentionSession::Kind& kind, const BatchLengths& planned) {
  if (!kind.ragged || planned.paged_kv_indptr.empty()) return;
  const std::int64_t tokens = kind.graph ? kind.graph->max_pages : planned.paged_kv_indptr.back();
  if (kv.num_pages >= tokens) return;
  refuse("k shape[0]", kv.num_pages, std::string("must be at least ") +
         (kind.graph ? "max_pages of the graph (" : "the last entry of kv_indptr (") + std::to_string(tokens) + ")");
}

void check_rows(const AttentionArguments& a, const AttentionConfig& c, const AttentionSession::Kind& kind,
                const BatchLengths& planned) {
  const RowsRule q = rule_of("q", c, kind, planned);
  validate_rows(a.q, q);
  require_dtype(a.q.dtype, c.dtype_of_q(), "q dtype", "that of the config");
  check_cache(a.kv, c);
  check_tokens(a.kv, kind, planned);
  RowsRule o = q;
  o.name = "o", o.head_dim = c.heads.dim_vo(), o.head_dim_is = "head_dim_vo";
  validate_written_rows(a.output.o, o);
  require_dtype(a.output.o.dtype, c.dtype_of_o(), "o dtype", "that of the config");
  check_memory(a);
  validate_lse(a.output, q.nnz_qo * c.heads.num_qo_heads, "rows of o * num_qo_heads, or 0 if not wanted");
}

// One form of the mask.
void check_mask(std::span<const std::uint8_t> mask, const AttentionConfig& c, const MaskBytes& wanted,
                std::span<const std::uint8_t> packed) {
  const bool custom = c.logits.mask == MaskMode::custom;
  const auto size = static_cast<std::int64_t>(mask.size()), packed_size = static_cast<std::int64_t>(packed.size());
  if (packed.empty()) {
    require_equal(size, custom ? wanted.bytes : 0, "custom_mask size",
                  custom ? "the sum of qo_len * kv_len, since logits.mask is custom" : "0, since logits.mask is not custom");
  } else {
    require_equal(packed_size, custom ? wanted.packed : 0, "packed_custom_mask size",
                  custom ? "the sum of ceil(qo_len * kv_len / 8)" : "0, since logits.mask is not custom");
    require(mask.empty(), "custom_mask size", size, "must be 0: packed_custom_mask is given, and one form is enough");
  }
  require_data(mask.data(), !mask.empty(), "custom_mask");
  require_data(packed.data(), !packed.empty(), "packed_custom_mask");
}

void check_sinks(std::span<const float> sinks, const AttentionConfig& c) {
  require_equal(static_cast<std::int64_t>(sinks.size()), c.logits.sinks ? c.heads.num_qo_heads : 0, "sinks size",
                c.logits.sinks ? "num_qo_heads, since logits.sinks is on" : "0, since logits.sinks is off");
  require_data(sinks.data(), !sinks.empty(), "sinks");
}

// What lies per head is read by kernels alone.
void check_scales(const KvScales& scales, const AttentionConfig& c) {
  validate(scales, c.heads.num_kv_heads);
  const float logits = c.params().sm_scale * scales.k;
  require(std::isfinite(logits) && logits > 0, "sm_scale * k_scale", logits, "must be finite and greater than 0");
}

}  // namespace

AttentionParams AttentionConfig::params() const {
  const float scale = heads.head_dim_qk > 0 ? default_sm_scale(heads.head_dim_qk) : 1.0f;
  return {.num_qo_heads = heads.num_qo_heads, .num_kv_heads = heads.num_kv_heads, .head_dim_qk = heads.head_dim_qk,
          .head_dim_vo = heads.dim_vo(), .sm_scale = logits.sm_scale.value_or(scale), .mask = logits.mask,
          .window_left = logits.window_left, .logits_soft_cap = logits.logits_soft_cap,
          .pos_encoding_mode = logits.pos_encoding_mode, .rope_scale = logits.rope_scale, .rope_theta = logits.rope_theta,
          .sinks = logits.sinks};
}

AttentionConfig config_for(const AttentionParams& p, const CacheConfig& cache, const ExecutionConfig& execution) {
  return {.heads = {.num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads, .head_dim_qk = p.head_dim_qk,
                    .head_dim_vo = p.head_dim_vo},
          .cache = cache,
          .logits = {.sm_scale = p.sm_scale, .mask = p.mask, .window_left = p.window_left,
                     .logits_soft_cap = p.logits_soft_cap, .pos_encoding_mode = p.pos_encoding_mode,
                     .rope_scale = p.rope_scale, .rope_theta = p.rope_theta, .sinks = p.sinks},
          .execution = execution};
}

void validate_config(const AttentionConfig& config, const AttentionSession::Kind& kind) {
  require(config.heads.head_dim_vo >= 0, "head_dim_vo", config.heads.head_dim_vo,
          "must be at least 1, or 0 for head_dim_qk");
  flashladder::validate(config.params());
  require(config.cache.page_size >= 1, "page_size", config.cache.page_size, "must be at least 1");
  require(is_cache_dtype(config.cache.dtype), "dtype", dtype_name(config.cache.dtype), cache_dtype_rule);
  if (is_fp8(config.cache.dtype)) {
    require(is_attention_dtype(config.dtype_of_q()), "q_dtype", dtype_name(config.dtype_of_q()),
            "must be f32, f16 or bf16, and be given, since the cache is fp8");
  } else {
    require_dtype(config.dtype_of_q(), config.cache.dtype, "q_dtype", "the cache's dtype");
  }
  const DType o = config.dtype_of_o();
  if (o != DType::f32) require_dtype(o, config.dtype_of_q(), "o_dtype", "f32 or q's dtype");
  constexpr std::int32_t align = planner::PlanInputs{}.chunk_align;
  static_assert(align == 64, "the message says so");
  const std::int32_t chunk = config.execution.chunk_size;
  require(config.execution.policy != SplitPolicy::fixed || (chunk >= 1 && chunk % align == 0), "chunk_size", chunk,
          "must be a positive multiple of 64, since policy is fixed");
  const std::int32_t threads = config.execution.threads;
  require(threads >= 0 && threads <= 1 << 12, "threads", threads, "must be 1 .. 4096, or 0 for all");
  const std::int32_t num_sms = config.execution.num_sms;
  require(num_sms >= 0, "num_sms", num_sms, "must be at least 1, or 0 for all");
  require(!kind.ragged || config.cache.page_size == 1, "page_size", config.cache.page_size,
          "must be 1: a ragged cache has no pages");
  require(kind.queries >= 1, "q_len_per_req", kind.queries, "must be at least 1");
  if (kind.graph) validate_limits(*kind.graph, kind.decode);
}

void validate_lengths(const BatchLengths& lengths, const AttentionConfig& config, const AttentionSession::Kind& kind) {
  if (lengths.block_table) {
    const BlockTableLengths& table = *lengths.block_table;
    require(table.max_pages >= 0, "max_pages", table.max_pages, "must not be negative");
    validate_block_table(lengths.page_entries(), table.seq_lens, config.cache.page_size);
  } else if (kind.ragged) {
    require(!lengths.kv_indptr.empty(), "kv_indptr size", 0, "must be batch + 1");
    validate_kv_indptr(lengths.kv_indptr, static_cast<std::int64_t>(lengths.batch()));
  } else {
    validate_page_counts(lengths.paged_kv_indptr, lengths.paged_kv_last_page_len, config.cache.page_size);
  }
  require(static_cast<std::int64_t>(lengths.batch()) * kind.queries <= int32_max, "batch", lengths.batch(),
          "times q_len_per_req must be at most 2^31 - 1");
  if (!kind.decode) validate_qo_indptr(lengths.qo_indptr, static_cast<std::int64_t>(lengths.batch()));
  if (kind.graph) require_within(*kind.graph, lengths, kind.decode);
}

std::span<const std::int32_t> checked_page_ids(std::span<const std::int32_t> page_ids, const BatchLengths& lengths) {
  if (lengths.max_seq_len && !lengths.block_table) {  // how many there are is known on the device alone
    require_data(page_ids.data(), lengths.batch() > 0 && *lengths.max_seq_len > 0, "paged_kv_indices");
    return page_ids;
  }
  const auto size = static_cast<std::int64_t>(page_ids.size()), entries = lengths.page_entries();
  const char* name = lengths.block_table ? "block_tables" : "paged_kv_indices";
  if (size < entries) {
    throw InputError(std::string(name) + " size", std::to_string(size),
                     std::string("must be at least ") +
                         (lengths.block_table ? "batch * max_pages" : "the last entry of paged_kv_indptr") + " (" +
                         std::to_string(entries) + ")");
  }
  require_data(page_ids.data(), entries > 0, name);
  return page_ids.first(static_cast<std::size_t>(entries));
}

void check(const AttentionArguments& a, const AttentionConfig& config, const AttentionSession::Kind& kind,
           const BatchLengths& planned, const MaskBytes& mask_bytes) {
  if (kind.latent) return check_latent(a, config, kind, planned);
  check_rows(a, config, kind, planned);
  check_mask(a.custom_mask, config, mask_bytes, a.packed_custom_mask);
  check_sinks(a.sinks, config);
  check_scales(a.scales, config);
}

}  // namespace flashladder::api
