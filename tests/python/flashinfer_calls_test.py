"""FlashInfer's calls over block tables, and shared prefixes: each against float64."""
from support import KINDS, Arrays, Batch, close, each_kind, main, oracle, rng, torch, unittest
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

  def words(self, masks, q_len):
    """A draft's masks [batch, q_len, q_len] as FlashInfer packs them: uint16, rows of whole words. Bits behind are set."""
    room = -(-q_len // 32) * 32
    rows = np.ones((*masks.shape[:2], room), bool)
    rows[:, :, :q_len] = masks
    return np.packbits(rows, axis=-1, bitorder="little").view(np.uint16)

  @each_kind
  def test_drafts(self, xp):
    """Several queries of every request in xqa: causal, and with a draft's mask among them."""
    for q_len in (3, 40):
      b = Batch(xp, kv_lens=(90, q_len, 47, 64), qo_lens=[q_len] * 4, layout="HND")
      table, lens, sinks = xp.of(self.table(b)), xp.ints(b.kv_lens), rng.standard_normal(8).astype(np.float32)
      q5 = b.q.reshape(4, 1, q_len, 8, 64)
      xqa = lambda q, **said: flashinfer.xqa(q, b.k, b.v, table, lens, kv_layout="HND", q_seq_len=q_len, **said)
      logits = oracle.Logits(causal=True, window_left=9, sinks=sinks)
      b.check(self, xqa(b.q, sliding_win_size=10, sinks=xp.of(sinks)), logits)
      o = xqa(q5, q_scale=1.5, kv_scale=0.5)
      self.assertEqual(tuple(o.shape), (4, 1, q_len, 8, 64))
      b.check(self, o.reshape(b.q.shape), oracle.Logits(causal=True, sm_scale=0.75 / 8), scale=0.5)
      masks = rng.random((4, q_len, q_len)) < 0.5
      whole = [np.concatenate([np.ones((q_len, n - q_len), bool), m], axis=1) for m, n in zip(masks, b.kv_lens)]
      words = xp.of(self.words(masks, q_len))
      out = xp.normal(4, 1, q_len, 8, 64)
      self.assertIs(xqa(q5, mask=words, output=out, sliding_win_size=10, sinks=xp.of(sinks)), out)
      b.check(self, out.reshape(b.q.shape), logits._replace(causal=False), whole)
      b.check(self, xqa(b.q, mask=words, q_scale=1.5, kv_scale=0.5), oracle.Logits(sm_scale=0.75 / 8), whole, scale=0.5)
    for said, sentence in (({"mask": words[:, :, :2]}, "mask size = 640 bytes: must be 1280"),
                           ({"q_cu_seq_lens": lens}, "q_cu_seq_lens")):
      with self.assertRaisesRegex(ValueError, sentence):
        xqa(b.q, **said)
    with self.assertRaisesRegex(ValueError, "q_seq_len = 2: must be 40, which q has"):
      flashinfer.xqa(q5, b.k, b.v, table, lens, kv_layout="HND", q_seq_len=2)

  @unittest.skipUnless("cuda" in KINDS, "needs torch with a GPU")
  def test_prefill_in_a_graph(self):
    """Lengths that lie on the GPU stay there: the graph plans anew in every replay."""
    xp = Arrays("cuda")
    q, cache = xp.normal(40, 8, 64), torch.full((60, 2, 2, 16, 64), float("nan"), dtype=torch.float16, device="cuda")
    workspace, table, lens, qo = xp.workspace(), xp.ints(np.zeros((4, 6))), xp.ints(np.zeros(4)), xp.ints(np.zeros(5))
    call = lambda: flashinfer.trtllm_batch_context_with_kv_cache(q, cache, workspace, table, lens, 31, 96, 0.2, 1.0, 4, qo,
                                                                 None, return_lse=True)
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
      o, lse = call()
    for kv_lens, qo_lens in (((33, 0, 7, 64), (5, 0, 7, 20)), ((90, 4, 4, 4), (31, 1, 4, 4)), ((90, 1, 1, 2), (9, 1, 1, 1))):
      b = Batch(xp, kv_lens=kv_lens, qo_lens=qo_lens, layout="HND")
      rows = sum(qo_lens)
      q[:rows].copy_(b.q)
      cache[:b.total].copy_(b.joined)
      for static, x in ((table, self.table(b)), (lens, b.kv_lens), (qo, b.qo)):
        static.copy_(xp.ints(x))
      graph.replay()
      b.check(self, (o[:rows], lse[:rows]), oracle.Logits(sm_scale=0.2, causal=True))


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
