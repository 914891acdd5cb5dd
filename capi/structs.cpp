#include "capi/structs.hpp"

#include <iterator>
#include <optional>

#include "api/contiguous_cache.hpp"

namespace flashladder::capi {
namespace {

// value as the one of `kinds` that it counts; else a refusal with the rule.
template <class Kind, std::size_t n>
Kind one_of(const Kind (&kinds)[n], std::int32_t value, const char* name, const char* rule) {
  require(value >= 0 && value < static_cast<std::int32_t>(n), name, value, rule);
  return kinds[value];
}

constexpr DType dtypes[] = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2};  // FL_F32 is 1
constexpr MaskMode masks[] = {MaskMode::none, MaskMode::causal, MaskMode::custom};
constexpr PosEncodingMode pos_encodings[] = {PosEncodingMode::NONE, PosEncodingMode::ROPE_LLAMA, PosEncodingMode::ALIBI};
constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::fixed, SplitPolicy::none, SplitPolicy::count,
                                    SplitPolicy::target, SplitPolicy::even};
constexpr api::Backend backends[] = {api::Backend::automatic, api::Backend::fa2, api::Backend::fa3};

std::optional<DType> dtype_if_given(std::int32_t dtype, const char* name) {
  if (dtype == FL_DTYPE_DEFAULT) return {};
  return dtype_of(dtype, name);
}

}  // namespace

bool flag(std::int32_t value, const char* name) {
  require(value == 0 || value == 1, name, value, "must be 0 or 1");
  return value == 1;
}
DType dtype_of(std::int32_t dtype, const char* name) {
  require(dtype >= 1 && dtype <= std::ssize(dtypes), name, dtype, "must be FL_F32, FL_F16, FL_BF16, FL_F8_E4M3 or FL_F8_E5M2");
  return dtypes[dtype - 1];
}
Device device_of(std::int32_t device, const char* name) {
  require(device == FL_CPU || device == FL_GPU, name, device, "must be FL_CPU or FL_GPU");
  return device == FL_CPU ? Device::cpu : Device::gpu;
}
KvLayout layout_of(std::int32_t layout, const char* name) {
  require(layout == FL_NHD || layout == FL_HND, name, layout, "must be FL_NHD or FL_HND");
  return layout == FL_NHD ? KvLayout::NHD : KvLayout::HND;
}

Tensor tensor_of(const fl_tensor* tensor, const char* name) {
  const fl_tensor given = read(tensor, name);
  const std::string of(name);
  require(given.rank >= 1 && given.rank <= Tensor::max_rank, (of + ".rank").c_str(), given.rank, "must be 1 .. 5");
  Tensor t{.data = given.data, .dtype = dtype_of(given.dtype, (of + ".dtype").c_str()), .rank = given.rank};
  std::copy(std::begin(given.shape), std::end(given.shape), t.shape.begin());
  std::copy(std::begin(given.strides), std::end(given.strides), t.strides.begin());
  return t;
}

PagedKvCache paged_cache_of(const fl_kv_cache* cache) {
  const fl_kv_cache given = read(cache, "kv");
  const KvLayout layout = layout_of(given.layout, "kv.layout");
  const Tensor k = tensor_of(given.k, "kv.k");
  return given.v == nullptr ? paged_kv_cache(k, layout) : paged_kv_cache(k, tensor_of(given.v, "kv.v"), layout);
}
PagedKvCache tokens_of(const fl_kv_cache* cache) {
  const fl_kv_cache given = read(cache, "kv");
  require(given.layout == FL_NHD, "kv.layout", given.layout, "must be FL_NHD: a ragged cache has no other");
  return api::token_cache(tensor_of(given.k, "kv.k"), tensor_of(given.v, "kv.v"), KvLayout::NHD);
}

PagedMlaCache mla_cache_of(const fl_mla_cache* cache) {
  const fl_mla_cache given = read(cache, "cache");
  const Tensor ckv = tensor_of(given.ckv, "cache.ckv");
  if (given.kpe == nullptr) return paged_mla_cache(ckv, given.head_dim_ckv == 0 ? 512 : given.head_dim_ckv);
  require(given.head_dim_ckv == 0, "cache.head_dim_ckv", given.head_dim_ckv, "must be 0: kpe is a tensor of its own");
  return paged_mla_cache(ckv, tensor_of(given.kpe, "cache.kpe"));
}

MlaScales mla_scales_of(const fl_mla_cache* cache) {
  const fl_mla_cache given = read(cache, "cache");
  MlaScales scales;
  auto& [k, kpe, v] = scales;  // a name for each field: none is forgotten
  if (given.ckv_scale != 0) k = v = given.ckv_scale;
  if (given.kpe_scale != 0) kpe = given.kpe_scale;
  return scales;
}

KvScales scales_of(const fl_kv_cache* cache, std::int64_t num_kv_heads) {
  const fl_kv_cache given = read(cache, "kv");
  KvScales scales;
  auto& [k, v, k_per_head, v_per_head] = scales;  // a name for each field: none is forgotten
  if (given.k_scale != 0) k = given.k_scale;
  if (given.v_scale != 0) v = given.v_scale;
  k_per_head = if_given(given.k_scale_per_head, num_kv_heads);
  v_per_head = if_given(given.v_scale_per_head, num_kv_heads);
  return scales;
}

api::LogitsConfig logits_of(const fl_logits* logits) {
  api::LogitsConfig config;
  if (logits == nullptr) return config;
  const fl_logits given = read(logits, "logits");
  // By a name for each field of the C++ struct: where that has one more, this does not compile until fl_logits has it too.
  [[maybe_unused]] auto& [sm_scale, mask, window_left, logits_soft_cap, pos_encoding_mode, rope_scale, rope_theta, sinks] =
      config;
  if (given.sm_scale != 0) sm_scale = given.sm_scale;
  mask = one_of(masks, given.mask, "mask", "must be FL_MASK_NONE, FL_MASK_CAUSAL or FL_MASK_CUSTOM");
  if (flag(given.use_window, "use_window")) {
    require(given.window_left >= 0, "window_left", given.window_left, "must be at least 0, since use_window is 1");
    window_left = given.window_left;
  } else {
    require(given.window_left == 0 || given.window_left == -1, "window_left", given.window_left,
            "counts with use_window = 1 only");
  }
  logits_soft_cap = given.logits_soft_cap;
  pos_encoding_mode = one_of(pos_encodings, given.pos_encoding_mode, "pos_encoding_mode",
                             "must be FL_POS_NONE, FL_POS_ROPE_LLAMA or FL_POS_ALIBI");
  if (given.rope_scale != 0) rope_scale = given.rope_scale;
  if (given.rope_theta != 0) rope_theta = given.rope_theta;
  return config;
}

api::AttentionConfig config_of(const fl_attention_config* config) {
  const fl_attention_config c = read(config, "config");
  // Again by a name for each field, so that none is forgotten here that the C++ structs get.
  api::AttentionConfig made;
  auto& [heads, cache, logits, execution, q_dtype, o_dtype] = made;
  auto& [num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo] = heads;
  auto& [page_size, kv_dtype] = cache;
  auto& [device, policy, chunk_size, threads, enable_pdl, backend, num_sms] = execution;
  num_qo_heads = c.num_qo_heads;
  num_kv_heads = c.num_kv_heads;
  head_dim_qk = c.head_dim_qk;
  head_dim_vo = c.head_dim_vo;
  page_size = c.page_size;
  kv_dtype = dtype_of(c.kv_dtype, "kv_dtype");
  q_dtype = dtype_if_given(c.q_dtype, "q_dtype");
  o_dtype = dtype_if_given(c.o_dtype, "o_dtype");
  logits = logits_of(c.logits);
  logits.sinks = flag(c.sinks, "sinks");
  device = device_of(c.device, "device");
  policy = one_of(policies, c.policy, "policy", "must be one of FL_SPLIT_...");
  chunk_size = c.chunk_size;
  threads = c.threads;
  enable_pdl = flag(c.enable_pdl, "enable_pdl");
  backend = one_of(backends, c.backend, "backend", "must be FL_BACKEND_AUTO, FL_BACKEND_FA2 or FL_BACKEND_FA3");
  num_sms = c.num_sms;
  return made;
}

api::MlaConfig mla_config_of(const fl_mla_config* config) {
  const fl_mla_config c = read(config, "config");
  api::MlaConfig made;
  auto& [num_heads, head_dim_ckv, head_dim_kpe, page_size, causal, sm_scale, kv_dtype, q_dtype, o_dtype, execution] = made;
  auto& [device, policy, chunk_size, threads, enable_pdl, backend, num_sms] = execution;
  num_heads = c.num_heads;
  if (c.head_dim_ckv != 0) head_dim_ckv = c.head_dim_ckv;
  if (c.head_dim_kpe != 0) head_dim_kpe = c.head_dim_kpe == -1 ? 0 : c.head_dim_kpe;
  page_size = c.page_size;
  causal = flag(c.causal, "causal");
  sm_scale = c.sm_scale;
  kv_dtype = dtype_of(c.kv_dtype, "kv_dtype");
  q_dtype = dtype_if_given(c.q_dtype, "q_dtype");
  o_dtype = dtype_if_given(c.o_dtype, "o_dtype");
  device = device_of(c.device, "device");
  policy = one_of(policies, c.policy, "policy", "must be one of FL_SPLIT_...");
  chunk_size = c.chunk_size;
  threads = c.threads;
  enable_pdl = flag(c.enable_pdl, "enable_pdl");
  backend = api::Backend::automatic;  // there is one
  num_sms = c.num_sms;
  return made;
}

api::AttentionLimits limits_of(const fl_attention_limits* limits) {
  const fl_attention_limits given = read(limits, "limits");
  api::AttentionLimits made;
  auto& [max_batch, max_pages, max_nnz_qo, max_qo_len] = made;  // by a name for each field, here too
  max_batch = given.max_batch;
  max_pages = given.max_pages;
  if (given.max_nnz_qo != 0) max_nnz_qo = given.max_nnz_qo;
  if (given.max_qo_len != 0) max_qo_len = given.max_qo_len;
  return made;
}

api::On on_of(const fl_on* on) {
  if (on == nullptr) return {};
  const fl_on given = read(on, "on");
  return {device_of(given.device, "on.device"), given.stream, flag(given.enable_pdl, "on.enable_pdl")};
}

std::int64_t rows_of(const Tensor& t) { return t.shape[0] < 0 ? 0 : t.shape[0]; }
std::int64_t heads_of(const Tensor& q) {
  return q.rank < 2 ? 0 : q.shape[static_cast<std::size_t>(q.rank) - 2];
}
std::int64_t rows_and_heads(const Tensor& q) {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < static_cast<std::size_t>(q.rank); ++i) n = wrapping_product(n, q.shape[i]);
  return n;
}

PageLists page_lists_of(const fl_page_lists* pages) {
  const fl_page_lists p = read(pages, "pages");
  require(p.batch >= 0, "pages.batch", p.batch, "must not be negative");
  return {array(p.indptr, std::int64_t{p.batch} + 1, "pages.indptr"), array(p.indices, p.num_indices, "pages.indices"),
          array(p.last_page_len, p.batch, "pages.last_page_len")};
}

}  // namespace flashladder::capi
