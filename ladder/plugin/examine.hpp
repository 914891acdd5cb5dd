// A plug-in through all cases, and what is made of its failures: of each kind of failure the smallest case, with the mistake
// that it looks like.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ladder/plugin/judge.hpp"
#include "ladder/plugin/naming.hpp"
#include "ladder/plugin/shrink.hpp"

namespace flashladder::ladder {

struct CaseFailure {
  CaseSpec spec;
  std::string kind, message;
  bool in_repeats = false;     // the case itself passed; found while it was repeated, in the search for leaks
};

// One kind of failure at its smallest.
struct SmallestFailure {
  std::string kind;
  Case c;
  Judgement judgement;
  CaseSpec from;               // the case that was shrunk
  int runs = 0;                // that shrinking took; 0: a case from a file, or found in repeats, is as it was
  std::vector<Fault> looks_like;  // of a wrong result: one class; empty: not recognised
  bool compared = false;       // whether there was a result to compare with the known mistakes
};

struct Examination {
  Rung rung;                    // as the plug-in introduced itself
  ChildRun introduction;        // other than finished: nothing could be run
  std::int64_t cases = 0, refused = 0, left_out = 0;  // left_out: after too many hangs
  std::string first_refusal;    // "case: reason"
  std::optional<Comparison> worst;
  std::string worst_case;
  std::vector<CaseFailure> failures;   // undecided ones too
  std::vector<SmallestFailure> smallest;

  bool ok() const { return cases > 0 && failures.empty() && left_out == 0; }
};

struct ExamineOptions {
  ChildOptions child = {};
  ShrinkLimits shrink = {};
  int most_hangs = 2;          // then the remaining cases are left out
  double leak_seconds = 3;     // for the search for leaks, over all cases that pass, a third of it for the first; 0: none
};

// progress is told what is being done. Throws InputError where the file is no plug-in.
Examination examine(const std::string& path, const std::vector<CaseSpec>& specs, const std::optional<Case>& file,
                    const ExamineOptions& options = {}, const std::function<void(const std::string&)>& progress = {});

}  // namespace flashladder::ladder
