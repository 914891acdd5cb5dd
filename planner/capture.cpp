// Does a plan stay within the sizes of a captured graph? Every buffer and the grid were fixed at capture, so a plan that
// exceeds one of them must not be replayed; one that stays within all of them can.
#include "core/mask_bits.hpp"
#include "core/page_table.hpp"
#include "planner/planner.hpp"

namespace flashladder::planner {

CaptureLimits usage(const Plan& plan, const PlanInputs& in) {
  CaptureLimits used{.batch = in.batch(), .nnz_qo = 0, .pages = 0};
  std::int64_t pairs = 0;
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    used.nnz_qo += in.qo_len(b);
    used.pages += pages_for(in.kv_lens[b], in.page_size);
    pairs += std::int64_t{in.qo_len(b)} * in.kv_lens[b];
  }
  used.items = plan.num_work();
  used.merges = plan.num_merges();
  used.partial_rows = plan.partial_rows;
  used.num_ctas = plan.num_ctas();
  used.mask_words = in.mask == MaskMode::custom ? mask_words(used.nnz_qo, pairs) : 0;
  return used;
}

std::string exceeds(const Plan& plan, const PlanInputs& in, const CaptureLimits& limits) {
  const CaptureLimits used = usage(plan, in);
  std::string sentence;
  const auto compare = [&](const char* what, std::int64_t CaptureLimits::* size) {
    if (used.*size <= limits.*size) return;
    sentence += (sentence.empty() ? "" : "; ") + std::string(what) + " " + std::to_string(used.*size) + " exceeds " +
                std::to_string(limits.*size);
  };
  compare("batch", &CaptureLimits::batch);
  compare("nnz_qo", &CaptureLimits::nnz_qo);
  compare("pages", &CaptureLimits::pages);
  compare("items", &CaptureLimits::items);
  compare("merges", &CaptureLimits::merges);
  compare("partial_rows", &CaptureLimits::partial_rows);
  compare("num_ctas", &CaptureLimits::num_ctas);
  compare("mask_words", &CaptureLimits::mask_words);
  return sentence;
}

bool fits(const Plan& plan, const PlanInputs& in, const CaptureLimits& limits) { return exceeds(plan, in, limits).empty(); }

}  // namespace flashladder::planner
