// What SMs do with a mixed batch, by the two rates of gpu/prefill/mixed_cost.hpp and a third: memory gives 30 GB/s to each SM
// when all of them read, as D6 does (268.4 MB in 67.6 us by 132 SMs: docs/measurements/h200-decode-peers.md). List scheduling
// with it: whoever is done takes the next work.
//
// Left out: launches, merges, the ends of works, L2, and that P11 reads what it multiplies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "walkthroughs/mixed_batch.hpp"

namespace flashladder::walkthroughs {

// What a CTA that has queues does, in which order.
enum class DecodeCtas : std::uint8_t { queues_first, queues_last, queues_only };

// Who did what: a plan whose queues are the CTAs' lanes, and what each work took.
struct MixedLanes {
  Plan plan;
  std::vector<float> us;  // [num_work()], all of part 0, then of part 1
  double read_by = 0, end = 0;  // when the last CTA has read, and when all is done
};

class MixedModel {
 public:
  MixedModel(const Plan& plan, DecodeCtas order) : plan_(plan), order_(order), ctas_(plan.cta_cost.size()) {
    if (plan.parts.size() == 2) queue_decode(plan.parts[0]);
    const PlanPart& last = plan.parts.back();
    for (std::int32_t w = 0; w < last.num_work(); ++w) claims_.push_back(work_of(std::ssize(plan.parts) - 1, w));
  }

  MixedLanes run() {
    lanes_.us.assign(static_cast<std::size_t>(plan_.num_work()), 0.0f);
    for (double time = 0;;) {
      for (Cta& cta : ctas_) take(cta, time);
      std::int64_t readers = 0;
      for (const Cta& cta : ctas_) readers += cta.busy && cta.now.reads;
      const double of_reader = readers == 0 ? 1 : std::min(1.0, memory_of_sm * static_cast<double>(ctas_.size()) /
                                                                    (alone * static_cast<double>(readers)));
      double step = never;
      for (const Cta& cta : ctas_) {
        if (cta.busy) step = std::min(step, cta.left / (cta.now.reads ? of_reader : 1));
      }
      if (step == never) break;
      time += step;
      for (Cta& cta : ctas_) advance(cta, step * (cta.now.reads ? of_reader : 1), time);
    }
    return lanes();
  }

 private:
  static constexpr double alone = 43, memory_of_sm = 30;  // GB/s
  static constexpr double never = std::numeric_limits<double>::infinity();

  struct Work {
    std::int64_t part = 0;
    std::int32_t number = 0;
    double us = 0;  // alone
    bool reads = false;
  };
  struct Cta {
    std::vector<Work> queue, done;
    std::size_t next = 0;
    bool busy = false;
    Work now{};
    double left = 0, since = 0;
  };

  // Reading or multiplying is a matter of the rows: a tile of one query's heads has nothing to multiply.
  Work work_of(std::int64_t p, std::int32_t number) const {
    const PlanPart& part = plan_.parts[static_cast<std::size_t>(p)];
    const WorkItem item = part.work(number);
    const bool reads = plan_.qo_lens[static_cast<std::size_t>(item.request)] == 1;
    const double us = reads ? gpu::p12::decode_us({.decode_keys = item.keys.size()})
                            : gpu::p12::prefill_us({.prefill_pairs = seen_pairs(plan_, part, item)});
    return {p, number, us, reads};
  }

  // The two queues of a CTA one behind the other: side by side each has half of what the CTA reads.
  void queue_decode(const PlanPart& part) {
    for (std::size_t q = 0; q + 1 < part.queue_indptr.size(); ++q) {
      for (std::int32_t i = part.queue_indptr[q]; i < part.queue_indptr[q + 1]; ++i) {
        ctas_[q / queues_of_cta].queue.push_back(work_of(0, part.queue[static_cast<std::size_t>(i)]));
      }
    }
  }

  void take(Cta& cta, double time) {
    if (cta.busy) return;
    const bool has_queue = cta.next < cta.queue.size(), has_claim = claimed_ < claims_.size();
    const bool may_claim = has_claim && !(order_ == DecodeCtas::queues_only && !cta.queue.empty());
    const bool claims = order_ == DecodeCtas::queues_last ? may_claim : may_claim && !has_queue;
    if (!claims && !has_queue) return;
    cta.now = claims ? claims_[claimed_++] : cta.queue[cta.next++];
    cta.busy = true, cta.left = cta.now.us, cta.since = time;
  }

  void advance(Cta& cta, double done, double time) {
    if (!cta.busy || (cta.left -= done) > 1e-9) return;
    cta.busy = false;
    cta.now.us = time - cta.since;
    cta.done.push_back(cta.now);
    lanes_.end = time;
    if (cta.now.reads) lanes_.read_by = time;
  }

  MixedLanes lanes() {
    lanes_.plan = plan_;
    for (std::size_t p = 0, first = 0; p < plan_.parts.size(); ++p) {
      PlanPart& part = lanes_.plan.parts[p];
      part.queue.clear(), part.queue_indptr.assign(1, 0);
      for (const Cta& cta : ctas_) {
        for (const Work& work : cta.done) {
          if (work.part != static_cast<std::int64_t>(p)) continue;
          part.queue.push_back(work.number);
          lanes_.us[first + static_cast<std::size_t>(work.number)] = static_cast<float>(work.us);
        }
        part.queue_indptr.push_back(static_cast<std::int32_t>(part.queue.size()));
      }
      first += static_cast<std::size_t>(part.num_work());
    }
    return lanes_;
  }

  const Plan& plan_;
  DecodeCtas order_;
  std::vector<Cta> ctas_;
  std::vector<Work> claims_;
  std::size_t claimed_ = 0;
  MixedLanes lanes_;
};

inline MixedLanes lanes_of(const Plan& plan, DecodeCtas order = DecodeCtas::queues_first) {
  return MixedModel(plan, order).run();
}

}  // namespace flashladder::walkthroughs
