// The page that a climb leaves behind: its table, and pictures of what was computed.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "ladder/agree.hpp"

namespace flashladder::cli {

inline constexpr int climb_rounds = 15;  // of which the median counts

// What a rung came to on the climbed case.
struct Step {
  const ladder::Rung* rung = nullptr;
  bool plugin = false;           // a user's kernel
  double milliseconds = 0;
  ladder::Comparison agreement;  // with the rung below and the double oracle
  ladder::Comparison expected;   // with the answer in the file, if has_expected
  bool has_expected = false;

  bool ok() const { return verdict() == ladder::Verdict::ok; }
  ladder::Verdict verdict() const { return std::max(agreement.verdict(), expected.verdict()); }
  const ladder::Worst& worst() const { return agreement.worst(); }
};

// A head to draw, and what a reader should see in it.
struct HeadPicture {
  const ladder::Case* of = nullptr;
  std::int32_t qo_head = 0;
  Range zoom;              // these tokens once more, large enough to read them; empty = not
  std::string title, text;
};

struct Climb {
  const ladder::Case* of = nullptr;
  std::string file;
  ladder::Settings settings;
  std::vector<Step> steps;
  std::map<std::string, std::string> not_run;  // a reason -> the rungs that gave it
  std::vector<std::string> failed;             // plug-ins that are wrong, which are not timed: a sentence each
  std::vector<HeadPicture> heads;
  std::vector<std::int32_t> served;  // KV lengths of a batch of decoding requests, planned by every policy; may be empty
};

std::string climb_page(const Climb& climb);

}  // namespace flashladder::cli
