#include "api/serving_session.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "api/attention_session.hpp"
#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/mask_bits.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"
#ifdef FLASHLADDER_CUDA
#include "api/gpu_call.hpp"
#include "gpu/check.hpp"
#endif

namespace flashladder::api {
namespace {

BatchLengths lengths_of(const ServingCall& call) {
  BatchLengths lengths = call.lengths;
  if (!call.qo_indptr.empty()) lengths.qo_indptr = call.qo_indptr;
  return lengths;
}
AttentionSession::Kind kind_of(const ServingCall& call) {
  return {.decode = call.lengths.max_seq_len.has_value() && !call.lengths.most_queries, .queries = call.queries,
          .latent = call.arguments.latent.has_value()};
}

bool same(const Workspace& a, const Workspace& b) {
  return a.device.data() == b.device.data() && a.device.size() == b.device.size() &&
         a.staging.data() == b.staging.data() && a.staging.size() == b.staging.size();
}

// Making an object asks the driver this and that, which takes longer than a short call's kernel. So a thread keeps those of
// its last calls: a few that plan on the device, one for each kind of layer; of the others one, because it owns the staging
// memory.
struct Kept {
  AttentionConfig config;
  Workspace workspace;
  std::int32_t gpu = 0, queries = 1;
  bool latent = false, decode = true;
  std::unique_ptr<AttentionSession> session;
};

// Whoever is dropped waits for its staging memory, which nobody may do while this thread's stream captures: then more are
// kept.
AttentionSession& session_for(const ServingCall& call, const Workspace& workspace, [[maybe_unused]] Stream stream) {
  constexpr std::size_t most_planned_there = 4;
  thread_local std::vector<Kept> planned_there, planned_here;
  const AttentionSession::Kind kind = kind_of(call);
  const bool there = call.lengths.max_seq_len.has_value();
  std::vector<Kept>& kept = there ? planned_there : planned_here;
  std::int32_t gpu = -1;
  bool capturing = false;
#ifdef FLASHLADDER_CUDA
  if (call.config.execution.device == Device::gpu) gpu = current_gpu(), capturing = is_capturing(stream);
#endif
  require(there || !capturing, "stream", "capturing",
          "can't plan a prefill of lengths on the host, which is host work");
  const auto fits = [&](const Kept& k) {
    return k.config == call.config && same(k.workspace, workspace) && k.gpu == gpu && k.latent == kind.latent &&
           k.decode == kind.decode && k.queries == call.queries;
  };
  if (const auto at = std::ranges::find_if(kept, fits); at != kept.end()) return *at->session;
  while (!capturing && kept.size() >= (there ? most_planned_there : 1)) kept.erase(kept.begin());
  auto session = std::make_unique<AttentionSession>(call.config, kind);
  session->attach(workspace);
  kept.push_back({call.config, workspace, gpu, call.queries, kind.latent, kind.decode, std::move(session)});
  return *kept.back().session;
}

// On the GPU the mask's bits lie at the end of the workspace.
std::size_t mask_room(const ServingCall& call) {
  return call.config.execution.device == Device::gpu ? (call.packed_mask.size() + 15) / 16 * 16 : 0;
}
WorkspaceBytes with_mask(WorkspaceBytes bytes, const ServingCall& call) {
  return {bytes.device + mask_room(call), bytes.staging, bytes.least_device + mask_room(call)};
}

// Copies the mask's bits behind what the session has planned. They lie in pageable memory, which the copy has read when it
// returns.
void copy_mask(AttentionArguments& arguments, [[maybe_unused]] const ServingCall& call,
               [[maybe_unused]] const Workspace& workspace, [[maybe_unused]] Stream stream) {
  arguments.packed_custom_mask = call.packed_mask;
#ifdef FLASHLADDER_CUDA
  if (call.config.execution.device == Device::cpu) return;
  std::byte* there = workspace.device.data() + (workspace.device.size() - mask_room(call)) / 16 * 16;
  gpu::check(cudaMemcpyAsync(there, call.packed_mask.data(), call.packed_mask.size(), cudaMemcpyHostToDevice,
                             cuda_stream(stream)));
  arguments.packed_custom_mask = {reinterpret_cast<const std::uint8_t*>(there), call.packed_mask.size()};
#endif
}

}  // namespace

WorkspaceBytes serving_bytes(const ServingCall& call) {
  require_device(call.config.execution.device);
  return with_mask(AttentionSession(call.config, kind_of(call)).bytes_for(lengths_of(call)), call);
}

void attend_served(const ServingCall& call, const Workspace& workspace, const On& on) {
  require_device(on.device);
  AttentionSession& session = session_for(call, workspace, on.stream);
  if (call.packed_mask.empty()) {
    session.plan(lengths_of(call), {}, Device::cpu, on.stream);
    return session.run(call.arguments, on.stream);
  }
  session.require_plannable(on.stream);
  require_room(workspace, with_mask(session.bytes_for(lengths_of(call)), call));  // no plan reaches the mask then
  session.plan_measured(on.stream);
  AttentionArguments arguments = call.arguments;
  copy_mask(arguments, call, workspace, on.stream);
  session.run(arguments, on.stream);
}

void mask_drafts(ServingCall& call, std::span<const std::uint32_t> mask, const char* most_is) {
  const BlockTableLengths table = *call.lengths.block_table;
  const std::int32_t q_len = call.queries, words = words_of_row(q_len);
  const auto batch = static_cast<std::int64_t>(table.seq_lens.size());
  require_equal(std::ssize(mask), batch * q_len * words, "mask size",
                "batch * q_len * ceil(q_len / 32), q_len being the queries of every request");
  require_data(mask.data(), true, "mask");
  validate_block_table(batch * table.max_pages, table.seq_lens, call.config.cache.page_size);
  require(batch * q_len <= std::numeric_limits<std::int32_t>::max(), "batch", batch, "times q_len must be at most 2^31 - 1");
  call.qo_indptr.push_back(0);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int32_t kv_len = table.seq_lens[b], own = kv_len - q_len;  // the key of query 0
    if (kv_len > *call.lengths.max_seq_len) {
      refuse("kv_len", kv_len, std::string("must be at most ") + most_is + " (" + std::to_string(*call.lengths.max_seq_len) +
             ")", static_cast<int>(b));
    }
    call.qo_indptr.push_back(call.qo_indptr.back() + q_len);
    const std::size_t begin = call.packed_mask.size();
    call.packed_mask.resize(begin + (static_cast<std::size_t>(q_len) * kv_len + 7) / 8, 0xff);
    for (std::int32_t i = 0; i < q_len; ++i, mask = mask.subspan(words)) {
      for (std::int32_t k = std::max(0, -own); k < q_len; ++k) {
        if (mask[k / keys_of_word] >> (k % keys_of_word) & 1) continue;
        const std::int64_t bit = std::int64_t{i} * kv_len + own + k;
        call.packed_mask[begin + bit / 8] &= static_cast<std::uint8_t>(~(1u << bit % 8));
      }
    }
  }
  call.config.logits.mask = MaskMode::custom;
  call.lengths.max_seq_len.reset();
  call.queries = 1;
}

void require_scale(float scale, const char* argument) {
  require(scale > 0 && std::isfinite(scale), argument, scale, "must be finite and greater than 0");
}

BlockTableLengths table_of(std::span<const std::int32_t> block_tables, std::span<const std::int32_t> seq_lens,
                           const char* tables, const char* lens) {
  const auto entries = static_cast<std::int64_t>(block_tables.size()), batch = static_cast<std::int64_t>(seq_lens.size());
  if (batch == 0 ? entries > 0 : entries % batch != 0) {
    refuse(std::string(tables) + " size", entries, std::string("must be a multiple of the batch, the size of ") + lens);
  }
  const std::int64_t max_pages = batch == 0 ? 0 : entries / batch;
  require(max_pages <= std::numeric_limits<std::int32_t>::max(), "max_pages", max_pages, "must be at most 2^31 - 1");
  return {seq_lens, static_cast<std::int32_t>(max_pages)};
}

std::int32_t most_in(const BlockTableLengths& table, std::int32_t page_size, std::int32_t max_seq_len) {
  return static_cast<std::int32_t>(std::min<std::int64_t>(max_seq_len, std::int64_t{table.max_pages} * page_size));
}

}  // namespace flashladder::api
