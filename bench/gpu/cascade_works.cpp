// Family cascade: one query for each of many requests behind a prefix that all of them share. By the public cascade class,
// the prefix's level and the suffixes' level and their merge, and by one flat decode over page lists that name the shared
// pages for every request. Both are planned once, and checked on the same data.
#include <memory>
#include <utility>
#include <vector>

#include "api/batch_decode.hpp"
#include "api/multi_level_cascade.hpp"
#include "bench/gpu/api_decode.hpp"
#include "bench/gpu/families.hpp"
#include "bench/gpu/paged_pool.hpp"
#include "bench/gpu/prefill_data.hpp"

namespace flashladder::bench {
namespace {

using api::MultiLevelCascadeAttention;
using Decode = api::BatchDecodeWithPagedKVCache;

struct CascadeData {
  PrefillData flat;
  std::vector<std::int32_t> shared_rows, shared_indptr, shared_last, own_indptr{0}, own_last, own_ids;
  gpu::DeviceBuffer own_ids_on_gpu;

  explicit CascadeData(const CascadeCase& c) : flat(c.spec(), c.prefix / c.spec().page_size) {
    const std::int32_t page_size = flat.spec().page_size, shared = c.prefix / page_size;
    shared_rows = {0, c.batch}, shared_indptr = {0, shared}, shared_last = {page_size};
    for (std::int32_t b = 0; b < c.batch; ++b) {
      const auto ids = flat.host_page_ids().begin();
      own_ids.insert(own_ids.end(), ids + flat.kv_indptr()[b] + shared, ids + flat.kv_indptr()[b + 1]);
      own_indptr.push_back(static_cast<std::int32_t>(own_ids.size()));
      own_last.push_back(flat.last_page_len()[b]);
    }
    own_ids_on_gpu = gpu::DeviceBuffer(own_ids.data(), own_ids.size() * sizeof(std::int32_t));
  }
  std::vector<api::CascadeLevel> levels() const {
    return {{shared_rows, shared_indptr, shared_last}, {flat.qo_indptr(), own_indptr, own_last}};
  }
  PagedKvCache kv() const { return paged_kv_cache(flat.k(), flat.v(), KvLayout::NHD); }
  api::AttentionConfig config(bool enable_pdl) const {
    return api::config_for(flat.spec().params, {.page_size = flat.spec().page_size, .dtype = flat.spec().dtype},
                           {.device = Device::gpu, .enable_pdl = enable_pdl});
  }
};
using Data = std::shared_ptr<CascadeData>;

// One of the two ways, and its memory: exactly what the batch takes.
template <class Attention>
struct CascadeRun {
  ApiMemory memory;
  Attention attention;
};

Launch cascade_launch(const Data& data, bool enable_pdl, const GpuTimer& timer) {
  using Run = CascadeRun<MultiLevelCascadeAttention>;
  const api::AttentionConfig config = data->config(enable_pdl);
  ApiMemory memory(MultiLevelCascadeAttention::workspace_bytes(config, data->levels()));
  const api::Workspace workspace = memory.view();
  const auto run = std::make_shared<Run>(Run{std::move(memory), MultiLevelCascadeAttention(2, config, workspace)});
  run->attention.plan(data->levels(), timer.stream());
  const std::span<const std::int32_t> shared = data->flat.page_ids().first(data->shared_indptr.back());
  return [=](void* stream) {
    const std::span<const std::int32_t> ids[] = {shared, span_of(data->own_ids_on_gpu)};
    run->attention.run(data->flat.q(), data->kv(), ids, data->flat.output(), stream);
  };
}

Launch flat_launch(const Data& data, bool enable_pdl, const GpuTimer& timer) {
  using Run = CascadeRun<Decode>;
  const api::AttentionConfig config = data->config(enable_pdl);
  const auto &indptr = data->flat.kv_indptr(), &last = data->flat.last_page_len();
  ApiMemory memory(Decode::workspace_bytes(config, indptr, last));
  const api::Workspace workspace = memory.view();
  const auto run = std::make_shared<Run>(Run{std::move(memory), Decode(config, workspace)});
  run->attention.plan(indptr, last, timer.stream());
  return [=](void* stream) {
    run->attention.run(data->flat.q(), data->kv(), data->flat.page_ids(), data->flat.output(), stream);
  };
}

}  // namespace

std::vector<TimedWork> cascade_works(const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const CascadeCase& c : cascade_cases()) {
    say("checking " + c.name());
    const auto data = std::make_shared<CascadeData>(c);
    const auto add = [&](const char* backend, const Launch& launch) {
      const PrefillData::Check check = data->flat.check(*timer, launch);
      works.push_back({.line = {.family = name_of(Family::cascade), .work = c.name(),
                                .backend = std::string("flashladder ") + backend, .error = check.error,
                                .nearest = check.nearest},
                       .bytes = c.bytes(), .floor = Floor::read, .checked = checked_rows, .failure = check.failure,
                       .time_us = [=] { return timer->event_us(launch); }});
    };
    add("cascade", cascade_launch(data, false, *timer));
    add("cascade pdl", cascade_launch(data, true, *timer));
    add("flat decode", flat_launch(data, false, *timer));
  }
  return works;
}

}  // namespace flashladder::bench
