#include "api/single_decode.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "api/decode_checks.hpp"
#include "api/single_decode_gpu.hpp"
#include "core/error.hpp"
#include "reference/c3_paged.hpp"
#include "reference/element_io.hpp"

namespace flashladder::api {
namespace {

std::int32_t size_of_dim(std::int64_t n, const char* argument) {
  require(n >= 0 && n <= std::numeric_limits<std::int32_t>::max(), argument, n, "must be 0 .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

// A contiguous cache is one page that holds all its tokens.
PagedKvCache one_page(const Tensor& k, const Tensor& v, KvLayout layout) {
  require(k.rank == 3, "k rank", k.rank, "must be 3: [kv_len, num_kv_heads, head_dim] (NHD) or [num_kv_heads, kv_len, ..]");
  require(v.rank == 3, "v rank", v.rank, "must be 3: [kv_len, num_kv_heads, head_dim] (NHD) or [num_kv_heads, kv_len, ..]");
  for (int i = 0; i < 3; ++i) require(v.shape[i] == k.shape[i], "v shape", v.shape[i], "must be k's");
  require(k.dtype == v.dtype, "v dtype", name_of(v.dtype), "must be that of k");
  require(k.strides[2] == 1 && v.strides[2] == 1, "k, v stride", k.strides[2], "must be dense along head_dim");
  const int token = layout == KvLayout::NHD ? 0 : 1, head = 1 - token;
  const std::int32_t kv_len = size_of_dim(k.shape[token], "kv_len");
  return {.k = k.data, .v = v.data, .dtype = k.dtype,
          .k_strides = {0, k.strides[token], k.strides[head]}, .v_strides = {0, v.strides[token], v.strides[head]},
          .num_pages = kv_len > 0 ? 1 : 0, .page_size = std::max(kv_len, 1),
          .num_kv_heads = size_of_dim(k.shape[head], "num_kv_heads"),
          .head_dim_qk = size_of_dim(k.shape[2], "head_dim"), .head_dim_vo = size_of_dim(k.shape[2], "head_dim")};
}

// [num_heads, head_dim] as the one row of a batch.
Tensor as_batch(const Tensor& t, const char* argument) {
  require(t.rank == 2, argument, t.rank, "must be 2: [num_qo_heads, head_dim]");
  Tensor batch{.data = t.data, .dtype = t.dtype, .rank = 3};
  batch.shape = {1, t.shape[0], t.shape[1]};
  batch.strides = {t.shape[0] * t.shape[1], t.strides[0], t.strides[1]};
  return batch;
}

void on_cpu(const DecodeConfig& config, const DecodeArguments& a, std::int32_t kv_len) {
  const std::array<std::int32_t, 2> qo_indptr{0, 1}, kv_indptr{0, a.kv.num_pages};
  const std::array<std::int32_t, 1> first_page{0}, last_page_len{kv_len};
  const AttentionProblem problem{.params = config.params(), .q = a.q, .kv = a.kv, .qo_indptr = qo_indptr,
                                 .paged_kv_indptr = kv_indptr,
                                 .paged_kv_indices = std::span(first_page).first(static_cast<std::size_t>(a.kv.num_pages)),
                                 .paged_kv_last_page_len = last_page_len, .custom_mask = {}, .sinks = a.sinks};
  std::vector<float> o(static_cast<std::size_t>(a.output.o.size()));
  const Tensor rows = contiguous(o.data(), DType::f32, {1, config.num_qo_heads, config.head_dim});
  reference::c3::attend(problem, {.o = rows, .lse_log2 = a.output.lse_log2});
  reference::store_row(o.data(), static_cast<std::int64_t>(o.size()), a.output.o, 0);
}

}  // namespace

void single_decode_with_kv_cache(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOutput& output,
                                 const SingleDecodeOptions& options, const On& on, std::span<const float> sinks) {
  require_device(on.device);
  const PagedKvCache kv = one_page(k, v, options.kv_layout);
  const DecodeArguments arguments{.q = as_batch(q, "q rank"), .kv = kv, .paged_kv_indices = {},
                                  .output = {as_batch(output.o, "o rank"), output.lse_log2}, .sinks = sinks};
  const DecodeConfig config{.num_qo_heads = size_of_dim(q.shape[0], "num_qo_heads"), .num_kv_heads = kv.num_kv_heads,
                            .head_dim = size_of_dim(q.shape[1], "head_dim"), .page_size = kv.page_size, .dtype = q.dtype,
                            .o_dtype = output.o.dtype, .device = on.device, .sm_scale = options.sm_scale,
                            .logits_soft_cap = options.logits_soft_cap, .sinks = !sinks.empty(),
                            .window_left = options.window_left, .pos_encoding_mode = options.pos_encoding_mode,
                            .rope_scale = options.rope_scale, .rope_theta = options.rope_theta,
                            .enable_pdl = on.enable_pdl};
  validate(config);
  check(arguments, config, 1);
  const std::int32_t kv_len = kv.num_pages * kv.page_size;
  if (on.device == Device::cpu) return on_cpu(config, arguments, kv_len);
#ifdef FLASHLADDER_CUDA
  single_decode_on_gpu(config, arguments, kv_len, on.stream);
#endif
}

}  // namespace flashladder::api
