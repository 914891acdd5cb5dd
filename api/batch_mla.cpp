#include "api/batch_mla.hpp"

#include "api/attention_session.hpp"
#include "api/kv_len_arr.hpp"
#include "core/error.hpp"

namespace flashladder::api {
namespace {

AttentionSession::Kind kind_of(const AttentionLimits& limits) { return {.decode = false, .latent = true, .graph = limits}; }

}  // namespace

AttentionConfig MlaConfig::attention() const {
  const MaskMode mask = causal ? MaskMode::causal : MaskMode::none;
  flashladder::validate(MlaParams{num_heads, head_dim_ckv, head_dim_kpe, sm_scale, mask});
  require(execution.backend == Backend::automatic, "backend", name_of(execution.backend),
          "must be auto: fa2 and fa3 are kernels of attention with keys and values");
  return {.heads = {.num_qo_heads = num_heads, .num_kv_heads = 1, .head_dim_qk = head_dim_ckv + head_dim_kpe,
                    .head_dim_vo = head_dim_ckv},
          .cache = {.page_size = page_size, .dtype = kv_dtype},
          .logits = {.sm_scale = sm_scale, .mask = mask},
          .execution = execution, .q_dtype = q_dtype, .o_dtype = o_dtype};
}

WorkspaceBytes BatchMLAPagedAttention::workspace_bytes(const MlaConfig& config, const AttentionLimits& limits) {
  return AttentionSession(config.attention(), kind_of(limits)).bytes_for(limits);
}

BatchMLAPagedAttention::BatchMLAPagedAttention(const MlaConfig& config, const AttentionLimits& limits,
                                               const Workspace& workspace)
    : page_size_(config.page_size), session_(std::make_unique<AttentionSession>(config.attention(), kind_of(limits))) {
  session_->attach(workspace);
}
BatchMLAPagedAttention::~BatchMLAPagedAttention() = default;
BatchMLAPagedAttention::BatchMLAPagedAttention(BatchMLAPagedAttention&&) noexcept = default;
BatchMLAPagedAttention& BatchMLAPagedAttention::operator=(BatchMLAPagedAttention&&) noexcept = default;

void BatchMLAPagedAttention::plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr,
                                  std::span<const std::int32_t> kv_indices, std::span<const std::int32_t> kv_len_arr,
                                  Stream stream, Device indices_on) {
  refused_ = true;  // until all is well
  fill_last_page_lens(kv_indptr, kv_len_arr, page_size_, last_page_len_);
  refused_ = false;  // what is refused from here on the session keeps in mind
  session_->plan({.qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr, .paged_kv_last_page_len = last_page_len_}, kv_indices,
                 indices_on, stream);
}

void BatchMLAPagedAttention::plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> block_tables,
                                  const BlockTableLengths& lengths, Stream stream, Device indices_on) {
  refused_ = false;
  session_->plan({.qo_indptr = qo_indptr, .block_table = lengths}, block_tables, indices_on, stream);
}

void BatchMLAPagedAttention::run(const ConstTensor& q_nope, const ConstTensor& q_pe, const PagedMlaCache& cache,
                                 const AttentionOutput& output, Stream stream, const MlaScales& scales) {
  require(!refused_, "run()", "", "must come after plan(); the last one was refused");
  session_->run({.q = q_nope, .kv = {}, .page_ids = {}, .output = output, .sinks = {},
                 .latent = LatentTensors{q_pe, cache, scales}}, stream);
}

const Plan& BatchMLAPagedAttention::current_plan() const { return session_->current_plan(); }
std::string BatchMLAPagedAttention::explain() const { return session_->explain(); }

}  // namespace flashladder::api
