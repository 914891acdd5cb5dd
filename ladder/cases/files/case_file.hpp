// Case files and answer files: one attention problem, or its answer, as safetensors, in the form of docs/case_format.md.
// Whatever numpy, torch or this program wrote: the tensors come back bit by bit.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.hpp"
#include "ladder/cases/case.hpp"
#include "ladder/cases/files/case_metadata.hpp"

namespace flashladder::ladder {

// The problem has passed core validate(), page ids included. spec.qo_lens and kv_lens are filled in; a mask's kind and the
// values are `given`. The name is the note x-name, or else the file's stem. Throws InputError that names the file, the
// tensor or metadata key, and the rule.
Case read_case(const std::string& path);
Case parse_case(std::span<const std::byte> file, const std::string& what);

// The file appears whole or not at all. A name is kept as the note x-name.
void write_case(const std::string& path, const Case& c);
std::vector<std::byte> case_bytes(const Case& c, const std::string& what);

struct Answer {
  OwnedTensor o;                // [nnz_qo, num_qo_heads, head_dim_vo] f32, f16 or bf16
  std::vector<float> lse_log2;  // [nnz_qo * num_qo_heads]
  std::string rung, device;     // who computed it, where
  Metadata metadata;            // of the problem, notes included
};

// o is dense, of the answer's shape; lse_log2 goes with it. rung "C4", device "Intel Xeon, 2 cores".
void write_answer(const std::string& path, const Tensor& o, std::span<const float> lse_log2, const std::string& rung,
                  const std::string& device, const Case& c);
Answer read_answer(const std::string& path);
Answer parse_answer(std::span<const std::byte> file, const std::string& what);

}  // namespace flashladder::ladder
