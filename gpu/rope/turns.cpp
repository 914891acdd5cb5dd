#include "gpu/rope/turns.hpp"

#include "core/error.hpp"

namespace flashladder::gpu {

const RopeTurns& rope_turns(std::int32_t rotary_dim, float rope_scale, float rope_theta,
                            const std::optional<Llama31Scaling>& llama31) {
  thread_local RopeTurns table;
  thread_local std::int32_t table_dim = 0;
  thread_local float table_scale = 0, table_theta = 0;
  thread_local std::optional<Llama31Scaling> table_llama31;
  if (rotary_dim == table_dim && rope_scale == table_scale && rope_theta == table_theta && llama31 == table_llama31) {
    return table;
  }
  require(rotary_dim / 2 <= RopeTurns::most_pairs, "rotary_dim", rotary_dim, "must be at most 512 on the GPU");
  for (std::int32_t k = 0; k < rotary_dim / 2; ++k) {
    table.per_position[k] = turns_per_position(k, rotary_dim, rope_scale, rope_theta, llama31);
  }
  table_dim = rotary_dim;
  table_scale = rope_scale;
  table_theta = rope_theta;
  table_llama31 = llama31;
  return table;
}

}  // namespace flashladder::gpu
