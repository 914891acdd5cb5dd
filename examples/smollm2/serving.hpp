// Continuous batching: requests that wait take free slots and bring their prompts in one step, all slots decode together,
// and a request that ends gives its pages and its slot to the next.
#pragma once

#include <vector>

#include "model.hpp"

using Tokens = std::vector<std::int32_t>;

struct StepRecord {
  bool prefill = false;
  int requests = 0, tokens = 0;
  Milliseconds times{};

  double milliseconds() const;
};

struct Service {
  std::vector<Tokens> answers;  // of each prompt: with the end token, if it came
  std::vector<StepRecord> steps;
};

// Greedy decoding of at most new_tokens a prompt.
Service serve(Model& model, const std::vector<std::span<const std::int32_t>>& prompts, const Limits& limits, int new_tokens,
              std::int32_t end_token);
