"""Latent attention from Python, our names and FlashInfer's: against float64, which is attention on one KV head whose keys are
ckv and kpe one behind the other, and whose values are ckv."""

from fp8_test import e4m3
from support import KINDS, REAL_TORCH, Arrays, close, each_kind, flashladder, main, oracle, rng, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import MlaConfig

HEADS, SCALE = 4, 0.15


def dims(xp):
  """head_dim_ckv, head_dim_kpe: a GPU has kernels for one pair alone."""
  return (512, 64) if xp.on_gpu else (64, 16)


class Latents:
  """Requests with queries and pages of latent rows in a random order; what no request owns is NaN."""

  def __init__(self, xp, kv_lens=(33, 0, 7, 64), qo_lens=(3, 0, 1, 9), page=16, features=None):
    counts = [-(-n // page) for n in kv_lens]
    self.kv, self.qo = (np.cumsum([0, *x]).astype(np.int32) for x in (counts, qo_lens))
    self.ckv_dim, self.kpe_dim = ckv, kpe = features or dims(xp)
    self.lens, self.page, total = np.array(kv_lens, np.int32), page, sum(counts) + 2
    self.last = np.array([n - (c - 1) * page if c else 0 for n, c in zip(kv_lens, counts)], np.int32)
    self.ids = rng.permutation(total)[:sum(counts)].astype(np.int32)
    self.q_nope, self.q_pe = xp.normal(sum(qo_lens), HEADS, ckv), xp.normal(sum(qo_lens), HEADS, kpe)
    rows = np.full((total, page, ckv + kpe), np.nan)
    for b, n in enumerate(kv_lens):
      for t in range(n):
        rows[self.ids[self.kv[b] + t // page], t % page] = rng.standard_normal(ckv + kpe)
    rows = rows.astype(np.float16)
    self.rows, self.ckv, self.kpe = xp.of(rows), xp.of(rows[..., :ckv].copy()), xp.of(rows[..., ckv:].copy())
    keys = rows[:, :, None].astype(np.float64)
    q = np.concatenate([oracle.f64(self.q_nope), oracle.f64(self.q_pe)], axis=-1)
    self.cache, self.q = (keys, keys[..., :ckv]), q

  def table(self):
    """The pages as a block table [batch, 5]."""
    table = np.full((len(self.lens), 5), -1, np.int32)
    for b in range(len(self.lens)):
      table[b, :self.kv[b + 1] - self.kv[b]] = self.ids[self.kv[b]:self.kv[b + 1]]
    return table

  def check(self, test, result, causal=False, sm_scale=SCALE):
    pages = oracle.Pages(self.kv, self.ids, self.last, self.page)
    o, lse = oracle.batch_attention(self.q, self.cache, pages, self.qo, oracle.Logits(sm_scale=sm_scale, causal=causal))
    of_o, of_lse = oracle.tolerances("float16", [np.nan_to_num(x) for x in self.cache], self.q, sm_scale)
    pair = isinstance(result, tuple)
    close(test, result[0] if pair else result, o, of_o)
    if pair:
      close(test, result[1], lse, of_lse, "lse")


class Mla(unittest.TestCase):
  @each_kind
  def test_our_names(self, xp):
    attention = None
    for kv_lens, qo_lens in (((33, 0, 7, 64), (3, 0, 1, 9)), ((5, 90), (5, 8)), ((300,), (1,))):
      m = Latents(xp, kv_lens, qo_lens)
      attention = attention or flashladder.BatchMLAPagedAttention(MlaConfig(HEADS, SCALE, 16, *dims(xp), causal=True), m.ckv)
      attention.plan(*map(xp.ints, (m.qo, m.kv, m.last, m.ids)))
      m.check(self, attention.run(m.q_nope, m.q_pe, m.ckv, m.kpe, return_lse=True), causal=True)
      m.check(self, attention.run(m.q_nope, m.q_pe, m.rows), causal=True)    # one array, kpe behind ckv
      out = xp.normal(*m.q_nope.shape)
      self.assertIs(attention.run(m.q_nope, m.q_pe, m.ckv, m.kpe, out=out), out)
      m.check(self, out, causal=True)
    self.assertTrue(attention.explain())

  @each_kind
  def test_flashinfers_names(self, xp):
    m = Latents(xp)
    wrapper = flashinfer.BatchMLAPagedAttentionWrapper(xp.workspace(), backend="fa2")
    plan = lambda kv, ids, **more: wrapper.plan(*map(xp.ints, (m.qo, kv, ids, m.lens)), HEADS, *dims(xp), 16, False, SCALE,
                                                "float16", "float16", **more)
    plan(m.kv, m.ids)
    m.check(self, wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, return_lse=True))
    o, lse = wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, return_lse=True, return_lse_base_on_e=True)
    m.check(self, (o, oracle.f64(lse) * oracle.LOG2_E))
    m.check(self, wrapper.run(query=(m.q_nope, m.q_pe), kv_cache=m.rows))
    pages = [m.ids[m.kv[b]:m.kv[b + 1]].tolist() + [0] * b for b in range(4)]    # pages that tokens do not fill
    plan(np.cumsum([0, *map(len, pages)]), np.array(sum(pages, [])))
    m.check(self, wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe))
    plan(np.array([*m.kv, 7, 9]), m.ids)                                         # more entries than requests need
    m.check(self, wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe))
    with self.assertRaisesRegex(ValueError, "kv_indptr size = 4: must be at least 5"):
      plan(m.kv[:4], m.ids)
    with self.assertRaisesRegex(ValueError, "sinks"):
      wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, sinks=xp.normal(HEADS, dtype="float32"))
    with self.assertRaisesRegex(ValueError, "use_sinks"):
      plan(m.kv, m.ids, use_sinks=True)
    with self.assertRaisesRegex(ValueError, "use_cuda_graph"):
      flashinfer.BatchMLAPagedAttentionWrapper(xp.workspace(), True)

  @each_kind
  def test_graph(self, xp):
    """One object for every batch within the buffers, with as many queries as the first."""
    wrapper = flashinfer.BatchMLAPagedAttentionWrapper(
      xp.workspace(), True, kv_indices=xp.ints(np.zeros(40)), kv_len_arr=xp.ints(np.zeros(4)))
    made = None
    for kv_lens, qo_lens in (((0, 0, 0, 0), (3, 0, 1, 9)), ((33, 0, 7, 64), (3, 0, 1, 9)), ((300, 20), (10, 3))):
      m = Latents(xp, kv_lens, qo_lens)
      wrapper.plan(*map(xp.ints, (m.qo, m.kv, m.ids, m.lens)), HEADS, *dims(xp), 16, False, SCALE, "float16", "float16")
      m.check(self, wrapper.run(m.q_nope, m.q_pe, m.ckv, m.kpe, return_lse=True))
      made = made or wrapper._attention._handle
      self.assertEqual(made, wrapper._attention._handle)
    m = Latents(xp, (700,), (13,))
    with self.assertRaisesRegex(ValueError, "exceeds"):
      wrapper.plan(*map(xp.ints, (m.qo, m.kv, m.ids, m.lens)), HEADS, *dims(xp), 16, False, SCALE, "float16", "float16")

  @each_kind
  def test_append(self, xp):
    m = Latents(xp)
    ckv, kpe = xp.normal(3, m.ckv_dim), xp.normal(3, m.kpe_dim)
    flashinfer.append_paged_mla_kv_cache(ckv, kpe, xp.ints([0, 3, -1]), xp.ints([32, 5, 0]), m.ckv, m.kpe,
                                         *map(xp.ints, (m.ids, m.kv, m.last)))
    for row, (b, t) in enumerate(((0, 32), (3, 5))):
      page = m.ids[m.kv[b] + t // 16]
      for cache, new in ((m.ckv, ckv), (m.kpe, kpe)):
        self.assertTrue(np.array_equal(oracle.f64(cache)[page, t % 16], oracle.f64(new)[row]))

  @each_kind
  def test_block_tables(self, xp):
    """FlashInfer's calls over a block table: one query a request, and several, which are causal among themselves."""
    for q_len in (1, 3):
      m = Latents(xp, qo_lens=(q_len,) * 4)
      table = m.table()
      query = xp.of(m.q.astype(np.float16).reshape(4, q_len, HEADS, -1))
      call = lambda cache=m.rows, **more: flashinfer.mla.trtllm_batch_decode_with_kv_cache_mla(
        query, cache, xp.workspace(), 128, *dims(xp), xp.ints(table), xp.ints(m.lens), 80, bmm1_scale=SCALE, **more)
      flat = lambda o: o.reshape(4 * q_len, HEADS, m.ckv_dim)
      o, lse = call(return_lse=True)
      m.check(self, (flat(o), lse), causal=q_len > 1)
      o, lse = call(return_lse=True, return_lse_base="basee")
      m.check(self, (flat(o), oracle.f64(lse) * oracle.LOG2_E), causal=q_len > 1)
      m.check(self, flat(call(m.rows[:, None])), causal=q_len > 1)            # a cache with one head
      m.check(self, flat(oracle.f64(call(bmm2_scale=2.0)) / 2), causal=q_len > 1)
      out = xp.normal(4, q_len, HEADS, m.ckv_dim)
      self.assertIs(call(out=out), out)
      m.check(self, flat(out), causal=q_len > 1)
      for more, words in (({"sinks": [xp.normal(HEADS)]}, "sinks"), ({"sparse_mla_top_k": 2}, "sparse_mla_top_k = 2"),
                          ({"cum_seq_lens_q": xp.ints([0, 1])}, "cum_seq_lens_q"), ({"enable_dcp": True}, "enable_dcp")):
        with self.assertRaisesRegex(ValueError, words):
          call(**more)
      with self.assertRaisesRegex(ValueError, "query features = "):
        flashinfer.mla.xqa_batch_decode_with_kv_cache_mla(
          query, m.rows, xp.workspace(), 128, 512, 32, xp.ints(table), xp.ints(m.lens), 80)

  def test_fp8(self):
    """Rows of fp8, as bytes, with a scale for each of their parts."""
    xp = Arrays("numpy")
    m = Latents(xp)
    bits = (rng.integers(0x20, 0x40, m.rows.shape) | rng.choice([0, 0x80], m.rows.shape)).astype(np.uint8)
    bits[np.isnan(m.rows)] = 0x7F
    rows = e4m3(bits)
    rows[bits == 0x7F] = np.nan
    for ckv_scale, kpe_scale in ((None, None), (0.5, 0.5), (0.5, 2.0)):
      scales = [1.0 if x is None else x for x in (ckv_scale, kpe_scale)]
      keys = np.concatenate([rows[..., :m.ckv_dim] * scales[0], rows[..., m.ckv_dim:] * scales[1]], axis=-1)[:, :, None]
      m.cache = keys, keys[..., :m.ckv_dim]
      config = MlaConfig(HEADS, SCALE, 16, *dims(xp), kv_dtype="float8_e4m3fn", q_dtype="float16")
      attention = flashladder.BatchMLAPagedAttention(config, m.q_nope)
      attention.plan(m.qo, m.kv, m.last, m.ids)
      given = {"ckv_scale": ckv_scale, "kpe_scale": kpe_scale, "return_lse": True}
      m.check(self, attention.run(m.q_nope, m.q_pe, bits, **given))
      parts = bits[..., :m.ckv_dim].copy(), bits[..., m.ckv_dim:].copy()
      m.check(self, attention.run(m.q_nope, m.q_pe, *parts, **given))
      wrapper = flashinfer.BatchMLAPagedAttentionWrapper(xp.workspace())
      wrapper.plan(m.qo, m.kv, m.ids, m.lens, HEADS, *dims(xp), 16, False, SCALE, "float16", "float8_e4m3fn",
                   scale_mode="kv-per-tensor")
      m.check(self, wrapper.run(query=(m.q_nope, m.q_pe), kv_cache=parts, **given))
    with self.assertRaisesRegex(ValueError, "kpe_scale = 0: must not be 0"):
      attention.run(m.q_nope, m.q_pe, bits, kpe_scale=0.0)
    with self.assertRaisesRegex(ValueError, "q_dtype"):
      flashladder.BatchMLAPagedAttention(config._replace(q_dtype=None), m.q_nope).plan(m.qo, m.kv, m.last, m.ids)

  def test_fp8_of_torch(self):
    """xqa_mla as FlashInfer has it: queries and rows of fp8, o of bfloat16. And an append that quantises."""
    if not REAL_TORCH or not hasattr(torch, "float8_e4m3fn"):
      self.skipTest("needs torch with float8_e4m3fn")
    for xp in map(Arrays, KINDS[1:]):
      with self.subTest(kind=xp.kind):
        m = Latents(xp, qo_lens=(1,) * 4, features=(512, 64))
        rows = (m.rows / 4).to(torch.float8_e4m3fn)
        query = xp.of(m.q.astype(np.float32).reshape(4, 1, HEADS, 576)).to(torch.float8_e4m3fn)
        m.q = oracle.f64(query.float()).reshape(4, HEADS, 576)
        keys = oracle.f64(rows.float())[:, :, None] * 4
        m.cache = keys, keys[..., :512]
        heads = rows[:, :, None]
        o = flashinfer.xqa_mla(query, heads, heads, xp.ints(m.table()), xp.ints(m.lens), q_scale=SCALE, kv_scale=4.0)
        self.assertEqual(o.dtype, torch.bfloat16)
        want, _ = oracle.batch_attention(m.q, m.cache, oracle.Pages(m.kv, m.ids, m.last, m.page), m.qo,
                                         oracle.Logits(sm_scale=SCALE))
        of_o, _ = oracle.tolerances("bfloat16", [np.nan_to_num(x) for x in m.cache], m.q, SCALE)
        close(self, o.float().reshape(4, HEADS, 512), want, of_o)
        caches = [x.to(torch.float8_e4m3fn) for x in (m.ckv, m.kpe)]
        new = xp.normal(1, 512), xp.normal(1, 64)
        flashladder.append_paged_mla_kv_cache(*new, xp.ints([3]), xp.ints([5]), *caches, *map(xp.ints, (m.ids, m.kv, m.last)),
                                              ckv_scale=0.25, kpe_scale=0.5)
        page = int(m.ids[m.kv[3]])
        for cache, x, scale in zip(caches, new, (0.25, 0.5)):
          wanted = (x.float() / scale).to(torch.float8_e4m3fn)
          self.assertTrue(torch.equal(cache[page, 5].view(torch.uint8), wanted[0].view(torch.uint8)))

  @each_kind
  def test_xqa_mla(self, xp):
    m = Latents(xp, qo_lens=(1,) * 4, features=(512, 64))
    table = m.table()
    query, heads = xp.of(m.q.astype(np.float16).reshape(4, 1, HEADS, 576)), m.rows[:, :, None]
    call = lambda v=heads, **more: flashinfer.xqa_mla(query, heads, v, xp.ints(table), xp.ints(m.lens.reshape(4, 1)), **more)
    m.check(self, call(q_scale=SCALE).reshape(4, HEADS, 512))
    m.check(self, call(heads[..., :512], q_scale=SCALE, page_size=16).reshape(4, HEADS, 512))
    m.check(self, oracle.f64(call(q_scale=SCALE / 2, kv_scale=2.0)).reshape(4, HEADS, 512) / 2)
    output = xp.normal(4, 1, HEADS, 512)
    self.assertIs(call(q_scale=SCALE, output=output), output)
    m.check(self, output.reshape(4, HEADS, 512))
    with self.assertRaisesRegex(ValueError, "a latent row is both"):
      call(m.rows[:, :, None] * 1)
    with self.assertRaisesRegex(ValueError, "page_size = 8: must be 16"):
      call(page_size=8)


if __name__ == "__main__":
  main()
