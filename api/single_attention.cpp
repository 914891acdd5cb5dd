#include "api/single_attention.hpp"

#include <array>
#include <cstddef>
#include <limits>
#include <vector>

#include "api/attention_checks.hpp"
#include "api/attention_session.hpp"
#include "api/contiguous_cache.hpp"
#include "api/single_attention_gpu.hpp"
#include "core/error.hpp"

namespace flashladder::api {
namespace {

std::int32_t narrow(std::int64_t n, const char* argument) {
  require(n >= 0 && n <= std::numeric_limits<std::int32_t>::max(), argument, n, "must be 0 .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

// [num_heads, head_dim] as the one row of a batch.
template <class AnyTensor>
AnyTensor as_batch(const AnyTensor& t, const char* argument) {
  require(t.rank == 2, argument, t.rank, "must be 2: [num_qo_heads, head_dim]");
  AnyTensor batch = t;
  batch.rank = 3;
  batch.shape = {1, t.shape[0], t.shape[1]};
  batch.strides = {t.shape[0] * t.strides[0], t.strides[0], t.strides[1]};
  return batch;
}

// One request: q and o are [qo_len, heads, dim], the cache has pages of one token.
struct Single {
  AttentionConfig config;
  AttentionArguments arguments;
  std::array<std::int32_t, 2> qo_indptr, kv_indptr;

  Single(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v, const AttentionOutput& output,
         const SingleAttentionOptions& options, const On& on)
      : arguments{.q = q, .kv = token_cache(k, v, options.kv_layout), .page_ids = {}, .identity_pages = true,
                  .output = output, .sinks = options.sinks, .custom_mask = options.custom_mask,
                  .packed_custom_mask = options.packed_custom_mask, .scales = options.scales},
        qo_indptr{0, narrow(q.shape[0], "qo_len")}, kv_indptr{0, arguments.kv.num_pages} {
    const PagedKvCache& kv = arguments.kv;
    require(q.dtype == kv.dtype || is_fp8(kv.dtype), "q dtype", name_of(q.dtype), "must be that of k, unless that is fp8");
    config = {.heads = {.num_qo_heads = narrow(q.shape[1], "num_qo_heads"), .num_kv_heads = kv.num_kv_heads,
                        .head_dim_qk = narrow(q.shape[2], "head_dim_qk"), .head_dim_vo = kv.head_dim_vo},
              .cache = {.page_size = 1, .dtype = kv.dtype},
              .logits = options.logits,
              .execution = {.device = on.device, .enable_pdl = on.enable_pdl},
              .q_dtype = q.dtype, .o_dtype = output.o.dtype};
    config.logits.sinks = config.logits.sinks || !options.sinks.empty();
  }
  BatchLengths lengths(bool decode) const {
    return {.qo_indptr = decode ? std::span<const std::int32_t>{} : qo_indptr, .kv_indptr = kv_indptr};
  }
};

// Its own workspace for this one call; small work stays on the caller's thread.
void on_cpu(const Single& single, bool decode) {
  AttentionConfig config = single.config;
  if (decode) config.execution.threads = 1;  // starting threads takes longer than one query
  AttentionSession session(config, {.decode = decode, .ragged = true});
  std::vector<std::max_align_t> memory(session.bytes_for(single.lengths(decode)).device / sizeof(std::max_align_t) + 1);
  session.attach({.device = std::as_writable_bytes(std::span(memory))});
  session.plan(single.lengths(decode), {}, Device::cpu, nullptr);
  session.run(single.arguments, nullptr);
}

void run(const Single& single, bool decode, const On& on) {
  if (on.device == Device::cpu) return on_cpu(single, decode);
#ifdef FLASHLADDER_CUDA
  const AttentionSession::Kind kind{.decode = decode, .ragged = true};
  const std::int32_t qo_len = single.qo_indptr.back(), kv_len = single.kv_indptr.back();
  validate_config(single.config, kind);
  MaskBytes mask_bytes;
  mask_bytes.add(qo_len, kv_len);
  check(single.arguments, single.config, kind, {.qo_indptr = single.qo_indptr}, mask_bytes);
  single_attention_on_gpu(single.config, single.arguments, decode, qo_len, kv_len, on.stream);
#endif
}

}  // namespace

void single_decode_with_kv_cache(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                 const AttentionOutput& output, const SingleAttentionOptions& options, const On& on) {
  require_device(on.device);
  AttentionOutput batch_output = output;
  batch_output.o = as_batch(output.o, "o rank");
  run(Single(as_batch(q, "q rank"), k, v, batch_output, options, on), true, on);
}

void single_prefill_with_kv_cache(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                  const AttentionOutput& output, const SingleAttentionOptions& options, const On& on) {
  require_device(on.device);
  require(q.rank == 3, "q rank", q.rank, "must be 3: [qo_len, num_qo_heads, head_dim]");
  run(Single(q, k, v, output, options, on), false, on);
}

}  // namespace flashladder::api
