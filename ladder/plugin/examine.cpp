#include "ladder/plugin/examine.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::ladder {
namespace {

class Examiner {
 public:
  Examiner(const std::string& path, const ExamineOptions& options,
           const std::function<void(const std::string&)>& progress)
      : path_(path), options_(options), progress_(progress) {}

  void say(const std::string& what) const {
    if (progress_) progress_(what);
  }

  void introduce_it() {
    Introduction introduction = introduce(path_, options_.child);
    found_.rung = std::move(introduction.rung);
    found_.introduction = std::move(introduction.run);
  }

  void take(const Case& c) {
    if (hangs_ >= options_.most_hangs) {
      ++found_.left_out;
      return;
    }
    const Judgement judgement = judge(path_, found_.rung, c, options_.child);
    if (!judgement.supported()) {
      if (found_.refused++ == 0) found_.first_refusal = c.spec.name + ": " + judgement.run.message;
      return;
    }
    ++found_.cases;
    hangs_ += judgement.run.ending == Ending::hung;
    if (judgement.comparison && (!found_.worst || is_worse(*judgement.comparison, *found_.worst))) {
      found_.worst = judgement.comparison;
      found_.worst_case = c.spec.name;
    }
    if (judgement.ok() && c.spec.values != Values::given) passed_.push_back(c.spec);
    if (judgement.ok() && c.spec.values == Values::given) file_passed_ = true;
    if (judgement.ok()) return;
    found_.failures.push_back({c.spec, judgement.kind(), judgement.message()});
  }

  // On cases that pass, from the smallest up, as many as there is time for. The first gets time to find a small leak.
  void look_for_leaks(const std::optional<Case>& file) {
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    std::ranges::stable_sort(passed_, {}, [](const CaseSpec& s) { return s.bytes_estimate(); });
    double seconds = std::min(options_.leak_seconds / 3, options_.child.seconds / 4);
    const auto look = [&](const Case& c) {
      say("looking for leaks on " + c.spec.name);
      const ChildRun run = look_for_leak_in_child(path_, c, seconds, options_.child);
      if (run.ending != Ending::finished && run.ending != Ending::refused) {
        found_.failures.push_back({c.spec, name_of(run.ending), "in repeated runs: " + run.message, true});
      }
      seconds = std::min(0.1, seconds);
    };
    if (file_passed_ && options_.leak_seconds > 0) look(*file);
    for (const CaseSpec& spec : passed_) {
      if (std::chrono::duration<double>(Clock::now() - begin).count() >= options_.leak_seconds) break;
      look(draw_case(spec));
    }
  }

  // Kinds in the order in which they were met; of each, the failing case with the least work is shrunk.
  void look_closer(const std::optional<Case>& file) {
    std::vector<const CaseFailure*> of_each_kind;
    for (const CaseFailure& f : found_.failures) {
      if (f.kind == "undecided") continue;
      const auto same = std::find_if(of_each_kind.begin(), of_each_kind.end(), [&](auto* g) { return g->kind == f.kind; });
      if (same == of_each_kind.end()) of_each_kind.push_back(&f);
      else if (f.spec.bytes_estimate() < (*same)->spec.bytes_estimate()) *same = &f;
    }
    for (const CaseFailure* f : of_each_kind) {
      say("looking for the smallest case: " + f->kind);
      const bool given = f->spec.values == Values::given;
      found_.smallest.push_back(f->in_repeats ? as_found(*f, given ? *file : draw_case(f->spec))
                                : given       ? as_it_is(*f, *file)
                                              : shrunk(*f));
      name(found_.smallest.back());
    }
  }

  Examination result() && { return std::move(found_); }

 private:
  Judgement judged(const Case& c) const { return judge(path_, found_.rung, c, options_.child); }

  SmallestFailure as_it_is(const CaseFailure& f, const Case& c) const {
    return {.kind = f.kind, .c = c, .judgement = judged(c), .from = f.spec, .looks_like = {}};
  }

  // Of a case that passed: judged again, nothing would be wrong with it.
  SmallestFailure as_found(const CaseFailure& f, Case c) const {
    return {.kind = f.kind, .c = std::move(c), .judgement = {.run = {.message = f.message}}, .from = f.spec,
            .looks_like = {}};
  }

  SmallestFailure shrunk(const CaseFailure& f) const {
    ShrinkLimits limits = options_.shrink;
    if (f.kind == name_of(Ending::hung)) limits.runs = std::min(limits.runs, 10);  // each that hangs takes the whole limit
    const auto fails_so = [&](const CaseSpec& spec) { return judged(draw_case(spec)).kind() == f.kind; };
    const Shrunk least = shrink(f.spec, fails_so, limits);
    SmallestFailure smallest{.kind = f.kind, .c = draw_case(least.spec), .judgement = {}, .from = f.spec, .runs = least.runs,
                             .looks_like = {}};
    smallest.judgement = judged(smallest.c);
    return smallest;
  }

  // The smallest case drops most suspects, cheaply; other cases drop those that differ elsewhere. Right results count as
  // well: a mistake that would have shown there is not this one.
  void name(SmallestFailure& smallest) const {
    if (!smallest.judgement.run.has_result || smallest.judgement.run.ending == Ending::modified_input) return;
    smallest.compared = true;
    Suspects suspects;
    suspects.confront(smallest.c, smallest.judgement.run.result, smallest.judgement.oracle, true);
    for (const CaseSpec& spec : witnesses(smallest)) {
      if (suspects.none_left()) break;
      say("comparing with known mistakes on " + spec.name);
      const Case c = draw_case(spec);
      const Judgement judgement = judged(c);
      if (judgement.run.has_result) suspects.confront(c, judgement.run.result, judgement.oracle, judgement.fails());
    }
    smallest.looks_like = suspects.left();
  }

  // The case that was shrunk, the smallest other failing ones, and the smallest that passed.
  std::vector<CaseSpec> witnesses(const SmallestFailure& smallest) const {
    constexpr std::size_t of_each = 6;
    const auto least = [](std::vector<CaseSpec> specs) {
      std::ranges::stable_sort(specs, {}, [](const CaseSpec& s) { return s.bytes_estimate(); });
      if (specs.size() > of_each) specs.resize(of_each);
      return specs;
    };
    std::vector<CaseSpec> failed, all;
    for (const CaseFailure& f : found_.failures) {
      if (f.kind == smallest.kind && f.spec.values != Values::given) failed.push_back(f.spec);
    }
    if (smallest.runs > 0) all.push_back(smallest.from);
    for (const auto& list : {least(failed), least(passed_)}) all.insert(all.end(), list.begin(), list.end());
    return all;
  }

  std::string path_;
  ExamineOptions options_;
  std::function<void(const std::string&)> progress_;
  Examination found_;
  std::vector<CaseSpec> passed_;
  bool file_passed_ = false;
  int hangs_ = 0;
};

}  // namespace

Examination examine(const std::string& path, const std::vector<CaseSpec>& specs, const std::optional<Case>& file,
                    const ExamineOptions& options, const std::function<void(const std::string&)>& progress) {
  Examiner examiner(path, options, progress);
  examiner.introduce_it();
  if (file) examiner.take(*file);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    examiner.say(std::to_string(i + 1) + "/" + std::to_string(specs.size()) + " " + specs[i].name);
    examiner.take(draw_case(specs[i]));
  }
  examiner.look_for_leaks(file);
  examiner.look_closer(file);
  return std::move(examiner).result();
}

}  // namespace flashladder::ladder
