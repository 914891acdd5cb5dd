"""FlashInfer's calls over block tables, and shared prefixes: each against float64."""
from support import Batch, close, each_kind, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer


class BlockTables(unittest.TestCase):
  def table(self, b):
    table = np.full((len(b.kv_lens), 6), 2 ** 30, np.int32)  # entries behind a request's pages are never read
    for r in range(len(b.kv_lens)):
      ids = b.indices[b.indptr[r]:b.indptr[r + 1]]
      table[r, :len(ids)] = ids
    return table

  @each_kind
  def test_decode(self, xp):
    b = Batch(xp, layout="HND")
    table, lens, sinks = xp.of(self.table(b)), xp.ints(b.kv_lens), rng.standard_normal(8).astype(np.float32)
    trtllm = lambda **said: flashinfer.trtllm_batch_decode_with_kv_cache(b.q, b.joined, xp.workspace(), table, lens, 96,
                                                                         **said)
    b.check(self, trtllm(bmm1_scale=0.2, return_lse=True), oracle.Logits(sm_scale=0.2))
    b.check(self, trtllm(bmm1_scale=0.2, bmm2_scale=2.0), oracle.Logits(sm_scale=0.2), scale=2.0)
    b.check(self, trtllm(bmm1_scale=0.2, window_left=5, sinks=[xp.of(sinks)]),
            oracle.Logits(sm_scale=0.2, window_left=5, sinks=sinks))
    o, lse = flashinfer.cudnn_batch_decode_with_kv_cache(
      b.q, b.k, b.v, 0.2, xp.workspace(), max_sequence_kv=96, actual_seq_lens_kv=lens, block_tables=table, return_lse=True)
    b.check(self, (o, lse), oracle.Logits(sm_scale=0.2))
    for pair in ((b.k, b.v), (b.joined, b.joined)):
      o = flashinfer.xqa(b.q, *pair, table, lens, kv_layout="HND", sliding_win_size=6, sinks=xp.of(sinks.reshape(2, 4)))
      b.check(self, o, oracle.Logits(window_left=5, sinks=sinks))
    q4, out = b.q.reshape(4, 1, 8, 64), xp.normal(4, 1, 8, 64)
    self.assertIs(flashinfer.xqa.xqa(q4, b.k, b.v, table, lens.reshape(4, 1), out, xp.workspace(), xp.workspace(), 2, 16,
                                     kv_layout="HND"), out)
    b.check(self, out.reshape(4, 8, 64))

  @each_kind
  def test_prefill(self, xp):
    b = Batch(xp, qo_lens=(5, 0, 7, 1), layout="HND")
    table, lens, qo = xp.of(self.table(b)), xp.ints(b.kv_lens), xp.ints(b.qo)
    context = lambda **said: flashinfer.trtllm_batch_context_with_kv_cache(
      b.q, b.joined, xp.workspace(), table, lens, 7, 96, 0.2, 1.0, 4, qo, None, **said)
    b.check(self, context(return_lse=True), oracle.Logits(sm_scale=0.2, causal=True))
    b.check(self, context(causal=False), oracle.Logits(sm_scale=0.2))
    o, lse = flashinfer.cudnn_batch_prefill_with_kv_cache(
      b.q, b.k, b.v, 0.2, xp.workspace(), max_token_per_sequence=7, max_sequence_kv=96,
      actual_seq_lens_q=xp.ints(np.array(b.qo_lens).reshape(4, 1, 1, 1)), actual_seq_lens_kv=lens, block_tables=table,
      causal=True, return_lse=True, batch_offsets_q=xp.ints(b.qo * 8 * 64))
    b.check(self, o, oracle.Logits(sm_scale=0.2, causal=True))
    want = b.want(oracle.Logits(sm_scale=0.2, causal=True))[1]
    close(self, xp.host(lse)[2], want[5:12], 1e-3, "lse")
    self.assertTrue(np.isinf(xp.host(lse)[1]).all())
    b = Batch(xp, kv_lens=(33, 4, 7, 64), qo_lens=(3, 3, 3, 3), layout="HND")
    o = flashinfer.trtllm_batch_decode_with_kv_cache(b.q, b.joined, xp.workspace(), xp.of(self.table(b)), xp.ints(b.kv_lens),
                                                     96, 0.2, q_len_per_req=3)
    b.check(self, o, oracle.Logits(sm_scale=0.2, causal=True))


class Cascade(unittest.TestCase):
  @each_kind
  def test_shared_prefix(self, xp):
    b = Batch(xp, kv_lens=(20, 5, 1), qo_lens=(1, 1, 1))
    k, v = xp.normal(30, 2, 64), xp.normal(30, 2, 64)
    ks, vs = oracle.split_cache((b.k, b.v))
    pages = oracle.Pages(b.indptr, b.indices, b.last, 16)
    both = lambda x, own, i: np.concatenate([xp.host(x), pages.tokens(own, i)])
    want = np.concatenate([oracle.attention(xp.host(b.q)[i:i + 1], both(k, ks, i), both(v, vs, i))[0] for i in range(3)])
    decode = flashinfer.BatchDecodeWithSharedPrefixPagedKVCacheWrapper(xp.workspace())
    decode.begin_forward(*b.lists(), 8, 2, 64, 16)
    close(self, decode.forward(b.q, k, v, b.joined), want, 0.02)
    prefill = flashinfer.BatchPrefillWithSharedPrefixPagedKVCacheWrapper(xp.workspace())
    prefill.begin_forward(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16)
    close(self, prefill.forward(b.q, k, v, b.joined, causal=True), want, 0.02)
    cascade = flashinfer.MultiLevelCascadeAttentionWrapper(1, xp.workspace())
    cascade.plan([xp.ints(b.qo)], *([x] for x in b.lists()), 8, 2, 64, 16)
    b.check(self, cascade.run(b.q, b.joined))


if __name__ == "__main__":
  main()
