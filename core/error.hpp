// Every refusal of bad input is an InputError: which argument, its value, which request (or -1), and the rule it breaks.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace flashladder {

class InputError : public std::invalid_argument {
 public:
  InputError(std::string argument_, std::string value_, std::string rule_, int request_ = -1)
      : std::invalid_argument(argument_ + (value_.empty() ? "" : " = " + value_) +
                              (request_ < 0 ? "" : " (request " + std::to_string(request_) + ")") + ": " + rule_),
        argument(std::move(argument_)), value(std::move(value_)), rule(std::move(rule_)), request(request_) {}

  std::string argument, value, rule;
  int request;
};

// require(ok, "page_size", 0, "must be at least 1"): throws an InputError unless ok.
template <class Value>
void require(bool ok, const char* argument, const Value& value, const char* rule, int request = -1) {
  if (ok) return;
  if constexpr (std::is_floating_point_v<Value>) {
    char text[32];  // %g, because to_string would print 1e-9 as 0.000000
    std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
    throw InputError(argument, text, rule, request);
  } else if constexpr (std::is_arithmetic_v<Value>) {
    throw InputError(argument, std::to_string(value), rule, request);
  } else {
    throw InputError(argument, std::string(value), rule, request);
  }
}

}  // namespace flashladder
