"""Plan and run from Python, our own names: each class, against float64."""
from support import Arrays, Batch, close, each_kind, flashladder, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
from flashladder import AttentionConfig, Limits


def config(batch, **more):
  return AttentionConfig(batch.heads[0], batch.heads[1], batch.dim, batch.page_size, kv_dtype=batch.dtype,
                         head_dim_vo=batch.dim_vo if batch.dim_vo != batch.dim else None, **more)


class Attention(unittest.TestCase):
  @each_kind
  def test_decode(self, xp):
    for layout in ("NHD", "HND"):
      for dtype in xp.plain_dtypes():
        b = Batch(xp, layout=layout, dtype=dtype)
        indptr, indices, last = b.lists()
        decode = flashladder.BatchDecodeWithPagedKVCache(config(b), b.q, layout)
        decode.plan(indptr, last)
        b.check(self, decode.run(b.q, (b.k, b.v), indices, return_lse=True))
        b.check(self, decode.run(b.q, b.joined, indices))
        self.assertRegex(decode.explain(), "D6|D7|P1" if xp.on_gpu else "C4")
        self.assertIn('"', decode.plan_json())

  @each_kind
  def test_prefill(self, xp):
    b = Batch(xp, kv_lens=(33, 0, 7, 64), qo_lens=(5, 0, 9, 1), dim_vo=32)
    indptr, indices, last = b.lists()
    for mask, logits in (("none", oracle.Logits()), ("causal", oracle.Logits(causal=True))):
      prefill = flashladder.BatchPrefillWithPagedKVCache(config(b, mask=mask), b.q)
      prefill.plan(indptr, last, xp.ints(b.qo))
      b.check(self, prefill.run(b.q, (b.k, b.v), indices, return_lse=True), logits)

  @each_kind
  def test_logits(self, xp):
    b = Batch(xp, qo_lens=(5, 0, 3, 20))
    indptr, indices, last = b.lists()
    masks = [rng.random((q, k)) < 0.5 for q, k in zip(b.qo_lens, b.kv_lens)]
    flat = np.concatenate([m.ravel() for m in masks])
    sinks = rng.standard_normal(8).astype(np.float32)
    for said in ({"sm_scale": 0.3}, {"window_left": 4}, {"logits_soft_cap": 2.0}, {"pos_encoding_mode": "ALIBI"},
                 {"pos_encoding_mode": "ROPE_LLAMA", "rope_theta": 5000.0, "rope_scale": 2.0}, {"sinks": sinks},
                 {"custom_mask": masks}):
      fields = {**said}
      if "sinks" in said:
        fields["sinks"] = True
      if fields.pop("custom_mask", None) is not None:
        fields["mask"] = "custom"
      attention = flashladder.BatchPrefillWithPagedKVCache(config(b, **fields), b.q)
      attention.plan(indptr, last, xp.ints(b.qo))
      result = attention.run(b.q, (b.k, b.v), indices, return_lse=True, sinks=xp.of(sinks) if "sinks" in said else None,
                             custom_mask=xp.of(flat) if "custom_mask" in said else None)
      with self.subTest(said=list(said)):
        logits = oracle.Logits(**{k: v for k, v in said.items() if k != "custom_mask"})
        b.check(self, result, logits, masks if "custom_mask" in said else None)

  @each_kind
  def test_ragged(self, xp):
    qo, kv = np.cumsum([0, 5, 0, 9]).astype(np.int32), np.cumsum([0, 20, 3, 4]).astype(np.int32)
    q, k, v = xp.normal(14, 4, 32), xp.normal(27, 2, 32), xp.normal(27, 2, 32)
    attention = flashladder.BatchPrefillWithRaggedKVCache(AttentionConfig(4, 2, 32, mask="causal"), q)
    attention.plan(xp.ints(kv), None, xp.ints(qo))
    o, lse = attention.run(q, (k, v), return_lse=True)
    of_o, of_lse = oracle.tolerances("float16", (k, v), q)
    for b in range(3):
      rows, keys = slice(qo[b], qo[b + 1]), slice(kv[b], kv[b + 1])
      want = oracle.attention(xp.host(q)[rows], xp.host(k)[keys], xp.host(v)[keys], oracle.Logits(causal=True))
      close(self, xp.host(o)[rows], want[0], of_o)
      close(self, xp.host(lse)[rows], want[1], of_lse, "lse")

  @each_kind
  def test_block_table(self, xp):
    b = Batch(xp, kv_lens=(33, 16, 7, 64))
    table = np.full((4, 5), -7, np.int32)
    for r in range(4):
      ids = b.indices[b.indptr[r]:b.indptr[r + 1]]
      table[r, :len(ids)] = ids
    for policy in "balanced", "even", "none":
      decode = flashladder.BatchDecodeWithPagedKVCache(config(b, policy=policy), b.q)
      decode.plan_block_table(xp.ints(b.kv_lens), 5)
      b.check(self, decode.run(b.q, (b.k, b.v), xp.of(table), return_lse=True))

  @each_kind
  def test_graphs(self, xp):
    """Batches shrink and grow within the limits; rows beyond a batch are left alone."""
    for kv_lens in ((33, 0, 7, 64), (5, 5), (100,)):
      b = Batch(xp, kv_lens=kv_lens)
      indptr, indices, last = b.lists()
      graph = flashladder.CUDAGraphBatchDecodeWithPagedKVCache(config(b), Limits(6, 40), b.q)
      graph.plan(indptr, last, page_ids=indices)
      b.check(self, graph.run(b.q, (b.k, b.v), return_lse=True))
    b = Batch(xp, kv_lens=(33, 70, 7), qo_lens=(5, 1, 7))
    indptr, indices, last = b.lists()
    for kind in (flashladder.CUDAGraphBatchPrefillWithPagedKVCache, flashladder.BatchAttention):
      graph = kind(config(b, mask="causal"), Limits(4, 40, 20), b.q)
      graph.plan(indptr, last, xp.ints(b.qo), page_ids=indices)
      b.check(self, graph.run(b.q, (b.k, b.v), return_lse=True), oracle.Logits(causal=True))

  @each_kind
  def test_where_results_go(self, xp):
    b = Batch(xp)
    indptr, indices, last = b.lists()
    decode = flashladder.BatchDecodeWithPagedKVCache(config(b), b.q)
    decode.plan(indptr, last)
    whole = xp.normal(4, 2, 8, 64)                       # o in every second row of something larger
    out, lse = whole[:, 1], xp.normal(4, 8, dtype="float32")
    before = xp.host(whole)[:, 0].copy()
    result = decode.run(b.q, (b.k, b.v), indices, out=out, lse=lse, return_lse=True)
    self.assertIs(result[0], out)
    b.check(self, (out, lse))
    self.assertTrue(np.array_equal(xp.host(whole)[:, 0], before))
    o, natural = decode.run(b.q, (b.k, b.v), indices, return_lse=True, natural=True)
    b.check(self, (o, xp.host(natural) * oracle.LOG2_E))

  @each_kind
  def test_plans_again(self, xp):
    """The same object for other lengths, larger and smaller; memory is bought again only for more."""
    decode = None
    for kv_lens in ((3, 3), (90, 1, 0, 64, 300), (1,), (90, 1, 0, 64, 300)):
      b = Batch(xp, kv_lens=kv_lens)
      indptr, indices, last = b.lists()
      decode = decode or flashladder.BatchDecodeWithPagedKVCache(config(b), b.q)
      decode.plan(indptr, last)
      b.check(self, decode.run(b.q, (b.k, b.v), indices, return_lse=True))
      if kv_lens == (1,):
        held = decode.workspace_bytes()
    self.assertEqual(held, decode.workspace_bytes())

  @each_kind
  def test_cascade(self, xp):
    """Two groups share a prefix each; against one flat batch."""
    page, k, v = 4, xp.normal(30, 4, 2, 32), xp.normal(30, 4, 2, 32)
    q, qo = xp.normal(5, 4, 32), [0, 2, 3, 5]
    prefix = ([0, 3, 5], [7, 3, 9, 11, 2], [4, 4])       # group 0: requests 0 and 1, group 1: request 2
    own = ([0, 1, 3, 4], [20, 21, 22, 23], [3, 1, 2])
    levels = [([0, 3, 5], *prefix), (qo, *own)]
    c = AttentionConfig(4, 2, 32, page, mask="causal")
    cascade, wide = (flashladder.MultiLevelCascadeAttention(2, x, q) for x in (c, c._replace(o_dtype="float32")))
    for x in (cascade, wide):
      x.plan(*([xp.ints(level[i]) for level in levels] for i in (0, 1, 3, 2)))
    o, lse = cascade.run(q, (k, v), return_lse=True)
    in_f32 = wide.run(q, (k, v))
    indices = [*prefix[1][:3], 20, *prefix[1][:3], 21, 22, *prefix[1][3:], 23]
    pages = oracle.Pages([0, 4, 9, 12], indices, own[2], page)
    want = oracle.batch_attention(q, (k, v), pages, qo, oracle.Logits(causal=True))
    of_o, of_lse = oracle.tolerances("float16", (k, v), q)
    close(self, o, want[0], of_o)
    close(self, lse, want[1], of_lse, "lse")
    close(self, in_f32, want[0], of_o)
    self.assertIn("float32", str(in_f32.dtype))
    self.assertTrue(cascade.explain())

  @each_kind
  def test_single(self, xp):
    q, k, v = xp.normal(6, 4, 64), xp.normal(20, 2, 64), xp.normal(20, 2, 64)
    of_o, of_lse = oracle.tolerances("float16", (k, v), q)
    o, lse = flashladder.single_prefill_with_kv_cache(q, k, v, causal=True, return_lse=True)
    want = oracle.attention(q, k, v, oracle.Logits(causal=True))
    close(self, o, want[0], of_o)
    close(self, lse, want[1], of_lse, "lse")
    turned = [xp.of(xp.host(x).swapaxes(0, 1).astype(np.float16)) for x in (k, v)]
    o = flashladder.single_decode_with_kv_cache(q[5], *turned, kv_layout="HND")
    close(self, o, oracle.attention(xp.host(q)[5:], k, v)[0][0], of_o)

  @each_kind
  def test_page_pool(self, xp):
    pool = flashladder.PagePool(20, 4, shuffle_seed=5)
    a = pool.add_request()
    pool.append(a, 10)
    forked, copy = pool.fork(a, 9)
    self.assertEqual((pool.length(a), pool.length(forked), copy.entries), (10, 9, 1))
    indptr, indices, last = pool.table()
    self.assertEqual((indptr.tolist(), last.tolist()), ([0, 3, 6], [2, 1]))
    self.assertEqual(indices[:2].tolist(), indices[3:5].tolist())
    pool.remove(a)
    self.assertEqual(pool.free_pages(), 17)


class Refusals(unittest.TestCase):
  """The library's own sentences, as ValueError."""

  def refused(self, words, call, *arguments, **names):
    with self.assertRaises(ValueError) as caught:
      call(*arguments, **names)
    self.assertIn(words, str(caught.exception))
    return caught.exception

  def test_sentences(self):
    xp = Arrays("numpy")
    b = Batch(xp)
    indptr, indices, last = b.lists()
    decode = flashladder.BatchDecodeWithPagedKVCache(config(b), b.q)
    error = self.refused("must be 1 .. page_size", decode.plan, indptr, xp.ints([17, 0, 7, 16]))
    self.assertEqual((error.request, error.argument), (0, "paged_kv_last_page_len[0]"))
    decode.plan(indptr, last)
    run = lambda **changed: decode.run(**{"q": b.q, "kv": (b.k, b.v), "page_ids": indices, **changed})
    run()
    self.refused("page_ids", run, page_ids=None)
    self.refused("paged_kv_indices size", run, page_ids=xp.ints([0]))
    self.refused("q", run, q=b.q[:2])
    self.refused("dtype", run, q=b.q.astype(np.float32))
    self.refused("float16, bfloat16 or float32", run, q=b.q.astype(np.float64))
    self.refused("rank", run, kv=b.k)
    self.refused("q shape", run, q=b.q[0])
    self.refused("o shape", run, out=np.empty((4, 8, 32), np.float16))
    self.refused("lse", run, lse=np.empty((4, 7), np.float32))
    self.refused("sinks", run, sinks=np.zeros(8, np.float32))
    self.refused("sinks", run, sinks=np.zeros(7, np.float32))
    self.refused("custom_mask", run, custom_mask=np.zeros(8, bool))
    self.refused("last_page_len size", decode.plan, indptr, last[:3])
    self.refused("k", run, kv=(b.k[..., :32], b.v))
    self.refused("mask", flashladder.BatchDecodeWithPagedKVCache, config(b, mask="custum"), b.q)
    self.refused("policy", flashladder.BatchDecodeWithPagedKVCache, config(b, policy="best"), b.q)
    self.refused("kv_layout", flashladder.BatchDecodeWithPagedKVCache, config(b), b.q, "NDH")
    self.refused("must be a positive", flashladder.BatchDecodeWithPagedKVCache, config(b, sm_scale=0), b.q)
    self.refused("float8", flashladder.BatchDecodeWithPagedKVCache, config(b)._replace(kv_dtype="float8_e4m3"), b.q)
    self.refused("k_scale", run, k_scale=0.0)
    self.refused("plan()", flashladder.BatchDecodeWithPagedKVCache(config(b), b.q).explain)

  def test_run_before_plan(self):
    b = Batch(Arrays("numpy"))
    decode = flashladder.BatchDecodeWithPagedKVCache(config(b), b.q)
    with self.assertRaises(ValueError):
      decode.run(b.q, (b.k, b.v), b.indices)


if __name__ == "__main__":
  main()
