// What the rules of attention's arguments share. Sentences and names are put together only for a refusal: a valid call
// allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace flashladder {

[[noreturn]] inline void refuse(const std::string& argument, std::int64_t value, const std::string& rule,
                                int request = -1) {
  throw InputError(argument, std::to_string(value), rule, request);
}

inline void require_equal(std::int64_t value, std::int64_t wanted, const char* argument, const char* of_what) {
  if (value != wanted) refuse(argument, value, std::string("must be ") + of_what + " (" + std::to_string(wanted) + ")");
}

inline void require_data(const void* data, bool needed, const char* argument) {
  require(data != nullptr || !needed, argument, "null", "must point to data, since its size is not 0");
}
template <class T>
void require_data(std::span<T> values, const char* argument) {
  require_data(values.data(), !values.empty(), argument);
}

// Also of a number that is no DType.
inline std::string dtype_name(DType t) { return is_dtype(t) ? name_of(t) : std::to_string(static_cast<int>(t)); }

}  // namespace flashladder
