#include "bench/report/lane_lines.hpp"

#include <cmath>

#include "core/error.hpp"

namespace flashladder::bench {
namespace {

using ladder::Json;

// A thousandth of a microsecond is more than any clock here tells.
std::vector<double> rounded(std::vector<double> us) {
  for (double& x : us) x = std::round(x * 1e3) / 1e3;
  return us;
}

std::string text_of(const Json& line, const char* key) {
  const Json* value = line.find(key);
  if (value == nullptr || value->text() == nullptr) throw InputError(key, "", "must be there, and a text");
  return *value->text();
}

std::vector<double> numbers_of(const Json& line, const char* key) {
  const Json* value = line.find(key);
  if (value == nullptr || value->list() == nullptr) throw InputError(key, "", "must be there, and a list of numbers");
  std::vector<double> numbers;
  for (const Json& one : *value->list()) {
    const std::optional<double> x = one.number();
    if (!x || !std::isfinite(*x) || *x < 0) throw InputError(key, one.shown(), "must hold numbers, at least 0");
    numbers.push_back(*x);
  }
  return numbers;
}

}  // namespace

Json to_json(const CtaProfile& p) {
  return Json::Object{{"family", lanes_family}, {"case", p.work}, {"backend", p.backend}, {"policy", p.policy},
                      {"predicted", rounded(p.predicted)}, {"begin_us", rounded(p.begin_us)}, {"end_us", rounded(p.end_us)}};
}

CtaProfile profile_of(const Json& line) {
  CtaProfile p{.work = text_of(line, "case"), .policy = text_of(line, "policy"), .predicted = numbers_of(line, "predicted"),
               .begin_us = numbers_of(line, "begin_us"), .end_us = numbers_of(line, "end_us"),
               .backend = text_of(line, "backend")};
  require(!p.predicted.empty(), "predicted", 0, "must have at least one number");
  require(p.begin_us.size() == p.predicted.size(), "begin_us", p.begin_us.size(), "must be as long as predicted");
  require(p.end_us.size() == p.predicted.size(), "end_us", p.end_us.size(), "must be as long as predicted");
  for (std::size_t i = 0; i < p.end_us.size(); ++i) {
    require(p.begin_us[i] <= p.end_us[i], "end_us", p.end_us[i], "must not lie before begin_us");
  }
  return p;
}

}  // namespace flashladder::bench
