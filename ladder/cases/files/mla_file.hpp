// The tensors that a case file of op mla has in the place of q and the caches (docs/case_format.md).
#pragma once

#include "ladder/cases/case.hpp"
#include "ladder/cases/files/safetensors.hpp"
#include "ladder/cases/mla_parts.hpp"

namespace flashladder::ladder {

bool is_mla_file(const Safetensors& file);

// q_nope and q_pe, and ckv_cache with kpe_cache, or ckv_kpe_cache of both. Fills the tensors, and the spec as far as they say
// it.
void read_mla_tensors(const Safetensors& file, Case& c);
// Lends the case's tensors; cut_q holds those that it had to make, and must live as long as the file is used.
void add_mla_tensors(const Case& c, Parts& cut_q, Safetensors& file);

}  // namespace flashladder::ladder
