#include "api/cascade_parts.hpp"

#include <utility>

#include "core/error.hpp"
#include "reference/merge_states.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/merge/merge_states.hpp"
#endif

namespace flashladder::api {

WorkspaceBytes sum(const std::vector<WorkspaceBytes>& levels, const WorkspaceBytes& besides) {
  WorkspaceBytes all = besides;
  for (const WorkspaceBytes& b : levels) {
    all.device += b.device, all.staging += b.staging, all.least_device += b.least_device;
  }
  return all;
}

AttentionConfig config_of_level(AttentionConfig config, std::size_t level, std::size_t num_levels) {
  if (num_levels > 1) config.o_dtype = DType::f32;
  if (level + 1 == num_levels) return config;
  config.logits.mask = MaskMode::none;
  config.logits.sinks = false;
  return config;
}

const AttentionSession& level_of(const std::vector<AttentionSession>& sessions, std::int32_t level) {
  require(level >= 0 && level < std::ssize(sessions), "level", level, "must be 0 .. num_levels - 1");
  return sessions[static_cast<std::size_t>(level)];
}

std::string explain_levels(const std::vector<AttentionSession>& sessions) {
  std::string text;
  for (std::size_t l = 0; l < sessions.size(); ++l) {
    text += (l == 0 ? "level " : "\nlevel ") + std::to_string(l) + ": " + sessions[l].explain();
  }
  return text;
}

std::size_t CascadeStates::bytes(const AttentionConfig& config, std::size_t num_levels, std::int64_t rows) {
  if (num_levels == 1) return 0;
  const auto of_heads = static_cast<std::size_t>(rows) * static_cast<std::size_t>(config.heads.num_qo_heads);
  const std::size_t of_o = num_levels * static_cast<std::size_t>(config.heads.dim_vo()), of_lse = num_levels + 1;
  return whole(of_heads * (of_o + of_lse) * sizeof(float), device_grain);
}

AttentionOutput CascadeStates::of_level(std::size_t level) const {
  const std::int64_t heads = config_.heads.num_qo_heads, dim = config_.heads.dim_vo();
  const auto of_heads = static_cast<std::size_t>(rows_ * heads), width = static_cast<std::size_t>(dim);
  auto* o = reinterpret_cast<float*>(memory_);
  float* lse_log2 = o + num_levels_ * of_heads * width;
  return {.o = contiguous(o + level * of_heads * width, DType::f32, {rows_, heads, dim}),
          .lse_log2 = {lse_log2 + level * of_heads, of_heads}};
}

void CascadeStates::run(std::vector<AttentionSession>& sessions, const AttentionArguments& arguments,
                        std::span<const std::span<const std::int32_t>> page_ids, const Written& written,
                        Stream stream) const {
  for (std::size_t l = 0; l < num_levels_; ++l) {
    AttentionArguments of = arguments;
    if (!page_ids.empty()) of.page_ids = page_ids[l];
    if (num_levels_ > 1) of.output = of_level(l);
    if (l + 1 < num_levels_) of.sinks = {};
    at_level(l, [&] { sessions[l].run(of, stream); });
  }
  if (num_levels_ > 1) merge(arguments.output, written, stream);
}

// All levels at once, in their order: each state is read once, and o is rounded and written once.
void CascadeStates::merge(const AttentionOutput& output, const Written& written, [[maybe_unused]] Stream stream) const {
  const auto levels = static_cast<std::int64_t>(num_levels_);
  const std::int64_t heads = config_.heads.num_qo_heads, dim = config_.heads.dim_vo();
  const AttentionOutput first = of_level(0);
  const auto state_first = [](Tensor t) {  // [levels, rows, ...] as [rows, levels, ...]
    std::swap(t.shape[0], t.shape[1]);
    std::swap(t.strides[0], t.strides[1]);
    return t;
  };
  Tensor v = state_first(contiguous(first.o.data, DType::f32, {levels, rows_, heads, dim}));
  Tensor s = state_first(contiguous(first.lse_log2.data(), DType::f32, {levels, rows_, heads}));
  const std::span<float> wanted = output.lse(), lse = wanted.empty() ? of_level(num_levels_).lse_log2 : wanted;
  Tensor o = output.o, s_out = contiguous(lse.data(), DType::f32, {rows_, heads});
  if (config_.execution.device == Device::cpu) {
    for (Tensor* t : {&v, &s, &o, &s_out}) t->shape[0] = written.here;
    return reference::merge_states(v, s, o, s_out, output.lse_factor());
  }
#ifdef FLASHLADDER_CUDA
  gpu::merge_states(v, s, o, s_out, static_cast<cudaStream_t>(stream), config_.execution.enable_pdl, output.lse_factor(),
                    written.there);
#endif
}

}  // namespace flashladder::api
