// What plan() and run() are given in C, as the C++ classes take it: for objects of one session and of several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "api/attention_backend.hpp"
#include "api/attention_session.hpp"
#include "capi/structs.hpp"

namespace flashladder::capi {

void require_null(const void* pointer, const char* name, const char* rule);

// The lengths of a batch: those of the kind, and no others.
api::BatchLengths lengths_of(const fl_batch& batch, const api::AttentionSession::Kind& kind);

// staging_bytes may be NULL where none are needed.
void put(const api::WorkspaceBytes& bytes, std::size_t* device_bytes, std::size_t* staging_bytes);

api::Workspace workspace_of(const fl_workspace* workspace);
std::span<const std::int32_t> page_ids_of(const std::int32_t* ids, std::int64_t count);

// Of plan and run: everything but where K and V lie.
api::AttentionArguments arguments_of(const fl_attention_arguments& arguments, std::int64_t num_qo_heads);

}  // namespace flashladder::capi
