#include "serving.hpp"

#include <algorithm>
#include <numeric>

namespace {

constexpr int free_slot = -1;

struct Slot {
  int prompt = free_slot;  // whose request it serves
  int request = 0;         // its id in the page pool
};

class Server {
 public:
  Server(Model& model, const std::vector<std::span<const std::int32_t>>& prompts, const Limits& limits, int new_tokens,
         std::int32_t end_token)
      : model_(model),
        prompts_(prompts),
        new_tokens_(new_tokens),
        end_token_(end_token),
        pool_(limits.pages, page_size, 7),
        nobody_(pool_.add_request()),
        slots_(static_cast<std::size_t>(limits.slots)) {
    service_.answers.resize(prompts.size());
  }

  Service run() {
    const auto busy = [](const Slot& s) { return s.prompt != free_slot; };
    while (next_prompt_ < prompts_.size() || std::ranges::any_of(slots_, busy)) {
      if (const std::vector<std::size_t> admitted = admit(); !admitted.empty()) prefill(admitted);
      if (std::ranges::any_of(slots_, busy)) decode();
    }
    return service_;
  }

 private:
  std::vector<std::size_t> admit() {
    std::vector<std::size_t> admitted;
    for (std::size_t i = 0; i < slots_.size() && next_prompt_ < prompts_.size(); ++i) {
      if (slots_[i].prompt != free_slot) continue;
      slots_[i] = {static_cast<int>(next_prompt_++), pool_.add_request()};
      admitted.push_back(i);
    }
    return admitted;
  }

  // All tokens of the new prompts; request b of the batch is the one in slot admitted[b].
  void prefill(const std::vector<std::size_t>& admitted) {
    Step step{.ids = {}, .batch_indices = {}, .positions = {}, .last_rows = {}, .qo_indptr = {0}, .table = {}};
    std::vector<int> requests;
    for (const std::size_t slot : admitted) {
      const auto prompt = prompts_[static_cast<std::size_t>(slots_[slot].prompt)];
      const auto tokens = static_cast<std::int32_t>(prompt.size());
      pool_.append(slots_[slot].request, tokens);
      for (std::int32_t t = 0; t < tokens; ++t) {
        step.ids.push_back(prompt[static_cast<std::size_t>(t)]);
        step.batch_indices.push_back(static_cast<std::int32_t>(requests.size()));
        step.positions.push_back(t);
      }
      step.qo_indptr.push_back(static_cast<std::int32_t>(step.ids.size()));
      step.last_rows.push_back(step.qo_indptr.back() - 1);
      requests.push_back(slots_[slot].request);
    }
    step.table = pool_.table(requests);
    const Tokens next = model_.prefill(step);
    service_.steps.push_back({true, static_cast<int>(admitted.size()), static_cast<int>(step.ids.size()), model_.times()});
    for (std::size_t b = 0; b < admitted.size(); ++b) take(slots_[admitted[b]], next[b]);
  }

  // A row for every slot, so that a step's launches are always the same; those of free slots are nobody's.
  void decode() {
    Step step;
    std::vector<int> requests;
    int alive = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const Slot& slot = slots_[i];
      const bool free = slot.prompt == free_slot;
      if (!free) pool_.append(slot.request, 1), ++alive;
      requests.push_back(free ? nobody_ : slot.request);
      step.ids.push_back(free ? 0 : service_.answers[static_cast<std::size_t>(slot.prompt)].back());
      step.batch_indices.push_back(free ? -1 : static_cast<std::int32_t>(i));
      step.positions.push_back(free ? 0 : pool_.length(slot.request) - 1);
      step.last_rows.push_back(static_cast<std::int32_t>(i));
    }
    step.table = pool_.table(requests);
    const Tokens next = model_.decode(step);
    service_.steps.push_back({false, alive, alive, model_.times()});
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].prompt != free_slot) take(slots_[i], next[i]);
    }
  }

  void take(Slot& slot, std::int32_t token) {
    Tokens& answer = service_.answers[static_cast<std::size_t>(slot.prompt)];
    answer.push_back(token);
    if (token != end_token_ && static_cast<int>(answer.size()) < new_tokens_) return;
    pool_.remove(slot.request);
    slot.prompt = free_slot;
  }

  Model& model_;
  const std::vector<std::span<const std::int32_t>>& prompts_;
  int new_tokens_;
  std::int32_t end_token_;
  fl::PagePool pool_;
  int nobody_;  // a request without tokens
  std::vector<Slot> slots_;
  std::size_t next_prompt_ = 0;
  Service service_;
};

}  // namespace

double StepRecord::milliseconds() const { return std::accumulate(times.begin(), times.end(), 0.0); }

Service serve(Model& model, const std::vector<std::span<const std::int32_t>>& prompts, const Limits& limits, int new_tokens,
              std::int32_t end_token) {
  return Server(model, prompts, limits, new_tokens, end_token).run();
}
