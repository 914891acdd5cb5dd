// From a dot product q . k to a logit in log2 units: the compile-time variant of an attention kernel. There are four, and
// one of them once more behind a rotation of q and k.
//
//   Scaled      sm_scale alone                            what most models want
//   SoftCapped  sm_scale and the soft cap                 Gemma
//   Masked      sm_scale and a custom mask                trees of drafts, in prefill
//   General     everything that core/score_transform.hpp and core/visibility.hpp know, by uniform run-time branches: soft
//               cap, ALiBi, causal, window, custom mask. Its arithmetic is core's own, the same on host and device.
//   Rotated     General's logits of rotated q and k           RoPE inside attention, in decode (decode/tile_rotation.cuh)
//
// Features are never multiplied out: a new one is a branch in General, or, if a kernel's speed depends on it, a fourth
// variant: a struct here, and its name in the list of the kernels that have an instance of it (decode/instances.cuh). Its
// takes() says for which parameters it is right. A kernel asks in this order:
//
//   Variant variant(params);                         once
//   variant.query(request, i)  ->  Query             for each query i (in its request) that a thread has rows of
//   variant.head(qo_head)      ->  Head              for each head
//   variant.sees(query, j)                           for each key j of an *edge* tile: a tile with a key that one of its
//                                                    rows does not see. has_mask(): a custom mask may hide keys anywhere
//   variant.row(query)                               its words of the mask, for who looks at many keys at once
//   Variant::may_have_mask                           false: has_mask() never holds
//   variant.logit(dot, query, head, j)               for each key that is seen
//   Variant::has_small_form                          where small(dot), logit(dot, ..) is logit_of_small(dot) bit for bit, so
//                                                    that a kernel whose dots are all small may ask for that alone
//   variant.row_constant(query, head)                what all logits of the row lack: finish_row() adds it to lse_log2
//   Variant::only_scales                             logit(dot, ...) is dot * p.scale: may be folded into an exponent
//   Variant::rotates                                 dot is that of q and k rotated to their positions: the kernel's business
//
// Keys outside of an item's range are the kernel's business, and sinks that of the final writer. Logits and row constants
// are in log2 units.
#pragma once

#include <cstdint>

#include "core/error.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/needs_general.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/rope/turns.hpp"

namespace flashladder::gpu {

struct Scaled {
  struct Params {
    float scale;
  };
  static constexpr bool only_scales = true, has_small_form = false, rotates = false, may_have_mask = false;
  struct Query {};
  struct Head {};
  static bool takes(const AttentionParams& a) { return !needs_general(a) && a.logits_soft_cap == 0; }
  static Params params(const AttentionCall& call) { return {call.params.sm_scale * static_cast<float>(log2_e)}; }

  Params p;
  __device__ Query query(const RequestShape&, std::int32_t) const { return {}; }
  __device__ Head head(std::int32_t) const { return {}; }
  __device__ static constexpr bool has_mask() { return false; }
  __device__ bool sees(Query, std::int32_t) const { return true; }
  __device__ float logit(float dot, Query, Head, std::int32_t) const { return dot * p.scale; }
  __device__ static constexpr float row_constant(Query, Head) { return 0; }
};

struct SoftCapped {
  // tanh x = x (c0 + c1 x^2 + c2 x^4 + c3 x^6) for |x| <= 0.35, a minimax fit: within 1.5e-7 of it, relatively, in float
  // arithmetic. A few multiplications, where tanhf takes exponentials and divisions. Which of the two a logit is made by
  // depends on its own dot alone: a row's bits must not depend on its neighbours, which may be rows that are not there.
  static constexpr float most_of_small = 0.35f;
  static constexpr float fit[4] = {0.99999994f, -0.33332422f, 0.132958f, -0.04895823f};
  struct Params {
    float inner, outer;
    float small, powers[4];  // dots up to small have logit dot (powers[0] + powers[1] dot^2 + ..)
  };
  static constexpr bool only_scales = false, has_small_form = true, rotates = false, may_have_mask = false;
  using Query = Scaled::Query;
  using Head = Scaled::Head;
  static bool takes(const AttentionParams& a) { return !needs_general(a) && a.logits_soft_cap > 0; }
  static Params params(const AttentionCall& call) {
    const AttentionParams& a = call.params;
    Params p{.inner = a.sm_scale / a.logits_soft_cap, .outer = a.logits_soft_cap * static_cast<float>(log2_e), .small = 0,
             .powers = {}};
    p.small = p.inner > 0 ? most_of_small / p.inner : 0;
    double power = double{p.outer} * p.inner;
    for (int i = 0; i < 4; ++i, power *= double{p.inner} * p.inner) p.powers[i] = static_cast<float>(fit[i] * power);
    return p;
  }

  Params p;
  __device__ Query query(const RequestShape&, std::int32_t) const { return {}; }
  __device__ Head head(std::int32_t) const { return {}; }
  __device__ static constexpr bool has_mask() { return false; }
  __device__ bool sees(Query, std::int32_t) const { return true; }
  __device__ float logit(float dot, Query, Head, std::int32_t) const {
    return small(dot) ? logit_of_small(dot) : p.outer * tanhf(dot * p.inner);
  }
  __device__ bool small(float dot) const { return fabsf(dot) <= p.small; }
  __device__ float logit_of_small(float dot) const {
    const float square = dot * dot;
    float sum = p.powers[3];
#pragma unroll
    for (int i = 2; i >= 0; --i) sum = fmaf(sum, square, p.powers[i]);
    return __fmul_rn(dot, sum);  // rounded here, whatever a caller adds: the same bits in every place
  }
  __device__ static constexpr float row_constant(Query, Head) { return 0; }
};

// What make_mask_bits() made. A kernel would read at nullptr where nobody called it.
inline const std::uint32_t* bits_of_mask(const AttentionCall& call) {
  const bool custom = call.params.mask == MaskMode::custom;
  require(!custom || call.mask_bits != nullptr, "custom_mask", "", "must have become bits before a kernel reads it");
  return custom ? call.mask_bits : nullptr;
}

// For kernels that look at rows of bits, not at keys: it has no sees().
struct Masked : Scaled {
  struct Params : Scaled::Params {
    const std::uint32_t* bits;
  };
  static constexpr bool may_have_mask = true;
  struct Query {
    std::uint32_t row;  // its first word: make_mask_bits() takes no mask that has more of them
  };
  static bool takes(const AttentionParams& a) {
    return a.mask == MaskMode::custom && a.logits_soft_cap == 0 && a.pos_encoding_mode == PosEncodingMode::NONE;
  }
  static Params params(const AttentionCall& call) { return {Scaled::params(call), bits_of_mask(call)}; }

  const Params& all;
  __device__ explicit Masked(const Params& params) : Scaled{params}, all(params) {}
  __device__ Query query(const RequestShape& request, std::int32_t i) const {
    return {static_cast<std::uint32_t>(request.mask) + static_cast<std::uint32_t>(i) * words_of_row(request.kv_len)};
  }
  __device__ float row_constant(Query, Head) const { return 0; }
  __device__ const std::uint32_t* row(Query q) const { return all.bits + q.row; }
  __device__ static constexpr bool has_mask() { return true; }
};

struct General {
  struct Params {
    AttentionParams attention;
    const std::uint32_t* mask_bits;
  };
  static constexpr bool only_scales = false, has_small_form = false, rotates = false, may_have_mask = true;
  struct Query {
    std::int32_t i, origin;  // origin: the key from which ALiBi reckons
    RequestShape request;
  };
  struct Head {
    ScoreTransform<float> transform;
  };
  static bool takes(const AttentionParams&) { return true; }
  static Params params(const AttentionCall& call) { return {call.params, bits_of_mask(call)}; }

  const Params& p;
  __device__ const std::uint32_t* row(const Query& q) const { return mask_of(q.request).row(q.request.kv_len, q.i); }
  __device__ MaskBits mask_of(const RequestShape& request) const { return {p.mask_bits + request.mask}; }
  __device__ Query query(const RequestShape& request, std::int32_t i) const {
    return {i, alibi_origin(p.attention, request.qo_len(), request.kv_len, i, mask_of(request)), request};
  }
  __device__ Head head(std::int32_t qo_head) const { return {ScoreTransform<float>(p.attention, qo_head)}; }
  __device__ bool has_mask() const { return p.attention.mask == MaskMode::custom; }
  __device__ bool sees(const Query& q, std::int32_t j) const {
    return visible(p.attention, q.request.qo_len(), q.request.kv_len, q.i, j, mask_of(q.request));
  }
  // All of these keys, which some query of the request sees.
  __device__ bool sees_all(const Query& q, Range keys) const {
    return shows_all(mask_of(q.request), q.request.kv_len, q.i, keys);
  }
  __device__ float logit(float dot, const Query& q, const Head& head, std::int32_t j) const {
    return head.transform(dot, q.origin, j);
  }
  __device__ float row_constant(const Query& q, const Head& head) const {
    return head.transform.row_constant(q.i, q.origin);
  }
};

struct Rotated : General {
  struct Params {
    General::Params logits;
    RopeTurns turns;
  };
  static constexpr bool rotates = true;
  static bool takes(const AttentionParams& a) { return a.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA; }
  static Params params(const AttentionCall& call) {
    const AttentionParams& a = call.params;
    return {General::params(call), rope_turns(a.head_dim_qk, a.rope_scale, a.rope_theta)};
  }
  __device__ explicit Rotated(const Params& all) : General{all.logits} {}
};

// Calls f.operator()<Variant>() with the first of the list that takes the parameters. InputError if none does.
template <class... Variants, class F>
void with_variant(const AttentionParams& params, F&& f) {
  const bool found = ((Variants::takes(params) ? (f.template operator()<Variants>(), true) : false) || ...);
  require(found, "logits", "", "no variant of this kernel computes them");
}

}  // namespace flashladder::gpu
