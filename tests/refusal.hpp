// What the library says when it refuses a call.
#pragma once

#include <string>

#include "core/error.hpp"

namespace flashladder::test {

// The message of the InputError that call() throws, or `accepted` if it throws none.
template <class Call>
std::string refusal(Call call, const char* accepted = "accepted") {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return accepted;
}

}  // namespace flashladder::test
