// The bytes of a case file that somebody has damaged.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/files/safetensors.hpp"

namespace flashladder::ladder::test {

// A case as a file of this name, whose tensors and metadata `change` may take away, add or damage.
template <class Change>
std::vector<std::byte> changed_case_bytes(const Case& c, const std::string& name, Change change) {
  const std::vector<std::byte> file = case_bytes(c, name);
  Safetensors contents = parse_safetensors(file, name);
  change(contents);
  return safetensors_bytes(contents, name);
}

}  // namespace flashladder::ladder::test
