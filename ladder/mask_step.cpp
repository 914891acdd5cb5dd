#include "ladder/mask_step.hpp"

#include <optional>
#include <vector>

#include "core/mask_bits.hpp"
#include "core/plan.hpp"
#include "gpu/device.hpp"

namespace flashladder::ladder {
namespace {

std::optional<gpu::MaskShape> mask_shape(const CaseSpec& spec) {
  if (spec.params.mask != MaskMode::custom) return {};
  return gpu::MaskShape{.requests = spec.batch(),
                        .words = mask_words(spec.nnz_qo(), static_cast<std::int64_t>(spec.mask_bytes()))};
}

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

std::size_t bytes_with_mask(std::size_t bytes, const CaseSpec& spec) {
  const auto mask = mask_shape(spec);
  return mask ? aligned(bytes) + gpu::mask_words_bytes(*mask) : bytes;
}

MaskStep::MaskStep(const Buffers& buffers, const CaseSpec& spec, std::size_t before) {
  const auto mask = mask_shape(spec);
  if (!mask) return;
  Plan lengths;
  lengths.batch = spec.batch(), lengths.qo_lens = spec.qo_lens, lengths.kv_lens = spec.kv_lens;
  std::vector<std::byte> list(gpu::mask_list_bytes(*mask));
  gpu::pack_mask_list(lengths, *mask, list);
  list_ = std::make_shared<const gpu::DeviceBuffer>(list.data(), list.size());
  to_ = {*mask, list_->data(), buffers.workspace.data() + aligned(before), gpu::multiprocessors()};
}

gpu::AttentionCall MaskStep::operator()(const gpu::AttentionCall& call, cudaStream_t stream) const {
  return list_ ? gpu::make_mask_bits(call, to_, stream) : call;
}

}  // namespace flashladder::ladder
