// Several queries of every request in xqa and in trtllm's decode, causal and with a draft's mask: against the oracle, whose
// custom mask says the same, and what is refused. On the CPU; tests/api_gpu_serving.cpp has the GPU's.
#include <doctest/doctest.h>

#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/draft_mask.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

struct Drafts : DraftCase {
  Dense dense;
  Drafts(std::int32_t q_len, std::int32_t window_left, bool masked) : DraftCase(q_len, window_left, masked), dense(c) {}
};

TrtllmBatchDecode trtllm_of(const Drafts& d) {
  return {.query = d.c.q.view(), .kv_cache = d.c.problem().kv, .workspace_buffer = {},
          .block_tables = d.dense.block_tables, .seq_lens = d.c.spec.kv_lens, .max_seq_len = 400,
          .bmm1_scale = d.c.spec.params.sm_scale, .window_left = d.c.spec.params.window_left, .out = {}, .sinks = d.c.sinks,
          .q_len_per_req = d.q_len(), .mask = d.words};
}
Xqa xqa_of(const Drafts& d) {
  return {.q = d.c.q.view(), .kv_cache = d.c.problem().kv, .page_table = d.dense.block_tables, .seq_lens = d.lens,
          .output = {}, .workspace_buffer = {}, .sinks = d.c.sinks, .q_scale = d.c.spec.params.sm_scale * 8,
          .sliding_win_size = d.c.spec.params.window_left + 1, .q_seq_len = d.q_len(), .mask = d.words};
}
void attend(const TrtllmBatchDecode& call) { trtllm_batch_decode_with_kv_cache(call); }
void attend(const Xqa& call) { xqa(call); }

// In exactly the memory that the call asks for.
template <class Call>
Result by_call(const Case& c, Call call, AttentionOutput Call::*out_member) {
  return written(c, DType::f32, [&](const AttentionOutput& out) {
    call.*out_member = out;
    Memory memory(workspace_bytes(call));
    call.workspace_buffer = memory.view();
    for (int layer = 0; layer < 2; ++layer) attend(call);
  });
}

// [batch * q_len, heads, dim] as FlashInfer has it: [batch, 1, q_len, heads, dim].
template <class AnyTensor>
AnyTensor with_beam(AnyTensor t, std::int32_t q_len) {
  t.rank = 5;
  t.shape = {t.shape[0] / q_len, 1, q_len, t.shape[1], t.shape[2]};
  t.strides = {q_len * t.strides[0], 77, t.strides[0], t.strides[1], 1};
  return t;
}

void check_drafts(const Drafts& d) {
  const CaseSpec& spec = d.c.spec;
  INFO(d.q_len(), " queries, window_left ", spec.params.window_left, ", mask ", !d.words.empty());
  const Result result = by_call(d.c, xqa_of(d), &Xqa::output);
  const Comparison comparison = compare(d.c, result.o, result.lse_log2, make_oracle(d.c));
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK(by_call(d.c, trtllm_of(d), &TrtllmBatchDecode::out) == result);
  Xqa call = xqa_of(d);
  call.q = with_beam(call.q, d.q_len());
  const Result with_rank_5 = written(d.c, DType::f32, [&](const AttentionOutput& out) {
    call.output = out;
    call.output.o = with_beam(out.o, d.q_len());
    Memory memory(workspace_bytes(call));
    call.workspace_buffer = memory.view();
    xqa(call);
  });
  CHECK(with_rank_5 == result);
}

}  // namespace

TEST_CASE("several queries of every request equal the oracle, causal and with a draft's mask") {
  for (const std::int32_t q_len : {1, 3, 8, 32, 33, 70}) {
    for (const std::int32_t window_left : {-1, 20}) {
      for (const bool masked : {false, true}) check_drafts({q_len, window_left, masked});
    }
  }
}

TEST_CASE("a draft's mask is read by rows of whole words, and its bits behind the queries are nobody's") {
  const Drafts d(5, -1, true);
  const Result result = by_call(d.c, xqa_of(d), &Xqa::output);
  Drafts other = d;
  for (std::uint32_t& word : other.words) word ^= ~0u << 5;
  CHECK(by_call(d.c, xqa_of(other), &Xqa::output) == result);
  for (int bit = 0; bit < 5; ++bit) {  // each of the others counts: row 2 of request 2
    other = d;
    other.words[2 * 5 + 2] ^= 1u << bit;
    CHECK_FALSE(by_call(d.c, xqa_of(other), &Xqa::output) == result);
  }
  other = d;
  std::swap(other.words[3 * 5 + 1], other.words[3 * 5 + 2]);  // request 3's rows 1 and 2
  const Comparison comparison = compare(d.c, by_call(d.c, xqa_of(other), &Xqa::output).o, {}, make_oracle(d.c));
  CHECK(comparison.verdict() == Verdict::fail);
}

TEST_CASE("drafts: what is refused, by its name in the call") {
  const Drafts d(3, -1, true);
  GuardedOutput out(d.c.q.shape[0], 6, 64);
  std::vector<std::byte> memory(1 << 22);
  const auto refused = [&](auto call, AttentionOutput decltype(call)::*out_member, auto change) {
    call.*out_member = out.view();
    call.workspace_buffer = {.device = memory};
    change(call);
    return refusal([&] { attend(call); });
  };
  const auto by_xqa = [&](auto change) { return refused(xqa_of(d), &Xqa::output, change); };
  const auto by_trtllm = [&](auto change) { return refused(trtllm_of(d), &TrtllmBatchDecode::out, change); };
  CHECK(by_xqa([](Xqa&) {}) == "accepted");
  CHECK(by_xqa([](Xqa& x) { x.mask = x.mask.first(14); }) ==
        "mask size = 14: must be batch * q_len * ceil(q_len / 32), q_len being the queries of every request (15)");
  CHECK(by_xqa([](Xqa& x) { x.q_seq_len = 0; }) == "q_seq_len = 0: must be at least 1");
  CHECK(by_xqa([](Xqa& x) { x.q_seq_len = 2; }).starts_with("mask size = 15"));
  CHECK(by_xqa([](Xqa& x) { x.q_seq_len = 2, x.mask = {}; }) ==
        "q shape[0] = 15: must be that of the requests that were planned, times q_len_per_req (10)");
  CHECK(by_xqa([](Xqa& x) { x.q = with_beam(x.q, 5); }) == "q.shape[2] = 5: must be q_seq_len (3)");
  CHECK(by_xqa([](Xqa& x) { x.q = with_beam(x.q, 3), x.q.shape[1] = 2; }) == "q.shape[1] = 2: must be a beam of 1");
  CHECK(by_xqa([](Xqa& x) { x.q = with_beam(x.q, 3), x.q.strides[0] += 1; }) ==
        "q.strides[0] = 1153: must be q_seq_len times strides[2]: requests lie one after the other");
  std::vector<std::uint32_t> lens = d.lens;
  lens[1] = 1u << 31;
  CHECK(by_xqa([&](Xqa& x) { x.seq_lens = lens; }).starts_with("seq_lens[1] = -2147483648 (request 1)"));
  CHECK(by_trtllm([](TrtllmBatchDecode&) {}) == "accepted");
  CHECK(by_trtllm([](TrtllmBatchDecode& t) { t.max_seq_len = 299; }) ==
        "kv_len = 300 (request 0): must be at most max_seq_len (299)");
  CHECK(by_trtllm([](TrtllmBatchDecode& t) { t.q_len_per_req = 0; }) == "q_len_per_req = 0: must be at least 1");
  CHECK(by_trtllm([](TrtllmBatchDecode& t) { t.mask = {static_cast<const std::uint32_t*>(nullptr), 15}; }) ==
        "mask = null: must point to data, since its size is not 0");
}
