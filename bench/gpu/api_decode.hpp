// The public decode class on a case: its workspace, one plan for all caches, and a launch for each of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "api/batch_decode.hpp"
#include "bench/gpu/timer.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {

struct Pinned {  // page-locked host memory
  explicit Pinned(std::size_t bytes);
  ~Pinned();
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  std::span<std::byte> bytes;
};

// What a class or a call of the API takes: exactly that.
struct ApiMemory {
  gpu::DeviceBuffer device;
  std::unique_ptr<Pinned> staging;

  explicit ApiMemory(const api::WorkspaceBytes& bytes)
      : device(bytes.device), staging(std::make_unique<Pinned>(bytes.staging)) {}
  api::Workspace view() const { return {{device.data(), device.size()}, staging->bytes}; }
};

class ApiDecode {
 public:
  struct Options {
    DType o_dtype = DType::f32;
    bool enable_pdl = false;
    planner::SplitPolicy policy = planner::SplitPolicy::balanced;
    std::int32_t chunk_size = 0;
  };
  ApiDecode(const ladder::CaseSpec& spec, const Options& options);

  void plan(void* stream) { decode_->plan(indptr_, last_page_len_, stream); }  // the same batch, again and again
  const Plan& current_plan() const { return decode_->current_plan(); }
  // All pointers are the device's. Needs a plan.
  Launch launch(const Tensor& q, const PagedKvCache& kv, std::span<const std::int32_t> paged_kv_indices,
                const AttentionOutput& output) const;

 private:
  std::vector<std::int32_t> indptr_, last_page_len_;
  gpu::DeviceBuffer device_;
  std::unique_ptr<Pinned> staging_;
  std::shared_ptr<api::BatchDecodeWithPagedKVCache> decode_;  // goes before the memory that it borrows
};

}  // namespace flashladder::bench
