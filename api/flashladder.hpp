// All of the public interface: attention over a paged KV cache by plan and run, and the operations around it, on the CPU or
// the GPU. docs/api.md walks through it, examples/decode_batch.cpp uses it.
#pragma once

#include "api/version.hpp"

#include "api/attention_config.hpp"
#include "api/batch_attention.hpp"
#include "api/batch_decode.hpp"
#include "api/batch_mla.hpp"
#include "api/batch_prefill.hpp"
#include "api/multi_level_cascade.hpp"
#include "api/operations.hpp"
#include "api/placement.hpp"
#include "api/serving_calls.hpp"
#include "api/serving_mla.hpp"
#include "api/single_attention.hpp"
#include "core/error.hpp"
#include "core/kv_cache.hpp"
#include "core/mla_problem.hpp"
#include "core/page_pool.hpp"
#include "core/plan.hpp"
#include "core/tensor.hpp"
#include "core/validate.hpp"
