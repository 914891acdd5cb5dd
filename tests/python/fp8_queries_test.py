"""fp8 queries from Python, and outputs that are fp8 then: against float64 on what the queries' bits stand for."""
import quantised_test as fp8
from support import KINDS, REAL_TORCH, Arrays, Batch, close, main, oracle, rng, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import _structs as s
from flashladder._arrays import family_of
from flashladder.flashinfer import _fp8

E4M3, E5M2 = fp8.NAMES
CODES = {E4M3: s.F8_E4M3, E5M2: s.F8_E5M2}
WIDE = {"float16": s.F16, "bfloat16": s.BF16, "float32": s.F32}


def bits_of(x, name):
  """The bytes of fp8 numbers near x."""
  table = np.where(np.isfinite(fp8.values(name)), fp8.values(name), 1e9)[:128]
  near = np.argmin(np.abs(np.abs(x)[..., None] - table), axis=-1)
  return (near | np.where(np.asarray(x) < 0, 0x80, 0)).astype(np.uint8)


def typed(xp, bits, name):
  """An array of fp8 numbers with these bits."""
  if xp.is_torch:
    return xp.of(bits).view(getattr(torch, name))
  return bits.view(getattr(fp8.ml_dtypes, name))


def table_of(b):
  table = np.zeros((len(b.kv_lens), 6), np.int32)
  for r in range(len(b.kv_lens)):
    table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
  return b.arrays.of(table)


class Fp8Batch(Batch):
  """A batch whose q8 is of an fp8, as are K and V if kv says so; q, which the formula reads, are q8's numbers."""

  def __init__(self, xp, name=E4M3, kv=None, **said):
    super().__init__(xp, **said)
    self.bits = bits_of(oracle.f64(self.q), name)
    self.q8, self.q = typed(xp, self.bits, name), fp8.values(name)[self.bits]
    if kv is not None:
      self.k, self.v = (typed(xp, np.where(np.isnan(oracle.f64(x)), 0x7F, bits_of(np.nan_to_num(oracle.f64(x)), kv)).astype(
        np.uint8), kv) for x in (self.k, self.v))

  def close(self, test, result, name, logits=oracle.Logits(), scale=1.0, more=0.0):
    """o of an fp8, or of 16 bits where `name` is one of those. more: what an earlier rounding may add."""
    pair = isinstance(result, tuple)
    (want, lse), (of_o, of_lse) = self.want(logits), self.tolerances(logits)
    o, of_o = result[0] if pair else result, scale * (of_o + more)
    test.assertEqual(family_of(o).code(o, "o"), CODES[name] if name in CODES else WIDE[name])
    if name in CODES:
      test.close(o, scale * want, name, of_o)
    else:
      close(test, o, scale * want, of_o * (8 if name == "bfloat16" else 1))
    if pair:
      close(test, result[1], lse, of_lse + more, "lse")


class Queries(fp8.Quantised):
  close = fp8.Outputs.close

  def kinds(self):
    return [xp for xp, _ in self.fp8_kinds()]

  def test_widening_is_exact(self):
    bits = np.arange(256, dtype=np.uint8)
    for xp in map(Arrays, KINDS):
      for name in fp8.NAMES:
        has_bfloat16 = REAL_TORCH if xp.is_torch else fp8.ml_dtypes is not None
        for x in (xp.of(bits),) + ((typed(xp, bits, name),) if xp.is_torch or fp8.ml_dtypes is not None else ()):
          for wide in [code for dtype, code in WIDE.items() if dtype != "bfloat16" or has_bfloat16]:
            have = oracle.f64(_fp8.widened(x, CODES[name], wide))
            finite = np.isfinite(fp8.values(name))
            self.assertTrue(np.array_equal(have[finite], fp8.values(name)[finite]))
            self.assertFalse(np.isfinite(have[~finite]).any())

  def test_decode(self):
    for xp in self.kinds():
      for name, kv in ((E4M3, E4M3), (E5M2, None), (E4M3, None)) + (() if xp.on_gpu else ((E5M2, E5M2),)):
        b = Fp8Batch(xp, name, kv, kv_lens=(33, 7, 64))
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
        plan = lambda **said: wrapper.plan(*b.lists(), 8, 2, 64, 16, kv_data_type=kv or "float16", **said)
        plan(q_data_type=name, o_data_type="float16")
        for scale in (None, 0.5):
          result = wrapper.run(b.q8, (b.k, b.v), return_lse=True, q_scale=scale)
          b.close(self, result, "float16", oracle.Logits(sm_scale=(scale or 1.0) * 64 ** -0.5))
        same = wrapper.run(xp.of(b.bits), (b.k, b.v))                      # bytes, of which plan() was told
        self.assertTrue(np.array_equal(oracle.f64(same), oracle.f64(wrapper.run(b.q8, (b.k, b.v)))))
        with self.assertRaisesRegex(ValueError, f"q dtype = float16: must be {name}"):
          wrapper.run(xp.of(b.q.astype(np.float16)), (b.k, b.v))
        plan(q_data_type=name)                                             # o as q
        b.close(self, wrapper.run(b.q8, (b.k, b.v)), name)
        out = typed(xp, np.zeros((3, 8, 64), np.uint8), name)
        self.assertIs(wrapper.run(b.q8, (b.k, b.v), out=out, v_scale=3.0), out)
        b.close(self, out, name, scale=3.0)
        plan(q_data_type="float16")
        with self.assertRaisesRegex(ValueError, "q dtype"):
          wrapper.run(b.q8, (b.k, b.v))

  def test_the_bits_are_those_of_wide_queries(self):
    for xp in self.kinds():
      b, name = Fp8Batch(xp, E4M3, E4M3, kv_lens=(33, 7, 64)), "float16"
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
      plan = lambda q: wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type=q, kv_data_type=E4M3, o_data_type=name)
      plan(name)
      want = oracle.f64(wrapper.run(xp.of(b.q.astype(np.float16)), (b.k, b.v), q_scale=0.3))
      plan(E4M3)
      self.assertTrue(np.array_equal(oracle.f64(wrapper.run(b.q8, (b.k, b.v), q_scale=0.3)), want))

  def test_dtypes_that_nobody_says(self):
    """Calls with other dtypes, one after the other, and a plan between."""
    for xp in self.kinds():
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
      plain, b = Batch(xp, kv_lens=(33, 7, 64)), Fp8Batch(xp, kv_lens=(33, 7, 64))
      for _ in range(2):
        wrapper.plan(*plain.lists(), 8, 2, 64, 16)
        plain.check(self, wrapper.run(plain.q, (plain.k, plain.v)))
        wrapper.plan(*b.lists(), 8, 2, 64, 16)
        b.close(self, wrapper.run(b.q8, (b.k, b.v)), E4M3)
        wide = wrapper.run(xp.of(b.q.astype(np.float16)), (b.k, b.v))
        b.close(self, wide, "float16")
        b.close(self, wrapper.run(b.q8, (b.k, b.v)), E4M3)

  def test_prefill(self):
    causal, qo = oracle.Logits(causal=True), (3, 0, 9)
    for xp in self.kinds():
      for dtype in ("float16", "bfloat16") if REAL_TORCH and xp.is_torch else ("float16",):
        b = Fp8Batch(xp, E4M3, E4M3, kv_lens=(33, 7, 64), qo_lens=qo)
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
        wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True, q_data_type=E4M3, kv_data_type=E4M3,
                     o_data_type=dtype)
        for said, base in (({}, 1.0), ({"lse_base": "ln"}, oracle.LOG2_E)):
          o, lse = wrapper.run(b.q8, (b.k, b.v), return_lse=True, **said)
          b.close(self, (o, oracle.f64(lse) * base), dtype, causal)
      batch = flashinfer.BatchAttention(device="cuda" if xp.on_gpu else "cpu") if xp.is_torch else None
      if batch is not None:
        batch.plan(*map(xp.ints, (b.qo, b.indptr, b.indices, b.kv_lens)), 8, 2, 64, 64, 16, True, q_data_type=E4M3,
                   kv_data_type=E4M3)
        b.close(self, batch.run(b.q8, (b.k, b.v)), E4M3, causal)

  def test_scales_of_heads(self):
    """scale_q, scale_k, scale_v behind the cache: numbers are exact, arrays are multiplied into q, which is rounded again."""
    of_q, of_k, of_v = (rng.uniform(0.5, 2.0, n).astype(np.float32) for n in (8, 2, 2))
    for xp in self.kinds():
      b = Fp8Batch(xp, E4M3, E4M3, kv_lens=(33, 7, 64), qo_lens=(3, 0, 9))
      paged = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
      paged.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True, q_data_type=E4M3, kv_data_type=E4M3,
                 o_data_type="float16")
      q, k, v = b.q, *(oracle.f64(x) for x in (b.k, b.v))
      for scales in ((of_q, of_k, of_v), (of_q, None, 2.0), (0.5, of_k, None), (2.0, 0.25, of_v), (of_q[:1], of_k, None)):
        given = [xp.of(x) if isinstance(x, np.ndarray) else x for x in scales]
        full = [np.broadcast_to(1.0 if x is None else x, n)[:, None] for x, n in zip(scales, (8, 2, 2))]
        b.q, b.k, b.v = q * full[0], k * full[1], v * full[2]
        longest = np.linalg.norm(b.q, axis=-1).max() * np.nanmax(np.linalg.norm(b.k, axis=-1))
        more = 2.0 ** -11 * longest * 64 ** -0.5 * np.nanmax(np.abs(b.v))
        o = paged.run(b.q8, tuple(typed(xp, bits_of_nan(x), E4M3) for x in (k, v)), *given)
        b.close(self, o, "float16", oracle.Logits(causal=True), more=more)
      with self.assertRaisesRegex(ValueError, "q_scale = 2.0: must be None beside scale_q"):
        paged.run(b.q8, (b.k, b.v), *given, q_scale=2.0)
      with self.assertRaisesRegex(ValueError, "scale_q shape"):
        paged.run(b.q8, (b.k, b.v), xp.of(of_q[:3]), None, None)

  def test_one_request(self):
    for xp in self.kinds():
      of_q, of_v = (rng.uniform(0.5, 2.0, n).astype(np.float32) for n in (8, 2))
      for name in fp8.NAMES:
        q, k, v = (bits_of(rng.standard_normal(shape), name) for shape in ((5, 8, 64), (33, 2, 64), (33, 2, 64)))
        arrays, numbers = [typed(xp, x, name) for x in (q, k, v)], [fp8.values(name)[x] for x in (q, k, v)]
        of_o = oracle.tolerances("float16", numbers[1:], numbers[0])[0]
        want, lse = oracle.attention(*numbers, oracle.Logits(causal=True))
        self.close(flashinfer.single_prefill_with_kv_cache(*arrays, causal=True), want, name, of_o)
        o, have = flashinfer.single_prefill_with_kv_cache(*arrays, causal=True, o_dtype="float16", return_lse=True)
        close(self, o, want, of_o)
        close(self, have, lse, 1e-3, "lse")
        o = flashinfer.single_prefill_with_kv_cache(*arrays, xp.of(of_q), None, xp.of(of_v), o_dtype="float16")
        want = oracle.attention(numbers[0] * of_q[:, None], numbers[1], numbers[2] * of_v[:, None])[0]
        close(self, o, want, 4 * of_o + 0.02)
        if xp.on_gpu and name != E4M3:
          with self.assertRaisesRegex(ValueError, "kv dtype f8_e5m2 with q dtype f16 is not taken"):
            flashinfer.single_decode_with_kv_cache(arrays[0][0], *arrays[1:], q_scale=0.5)
          continue
        o = flashinfer.single_decode_with_kv_cache(arrays[0][0], *arrays[1:], q_scale=0.5)
        want = oracle.attention(numbers[0][:1], *numbers[1:], oracle.Logits(sm_scale=0.5 * 64 ** -0.5))[0][0]
        self.close(o, want, name, of_o)

  def test_block_tables(self):
    for xp in self.kinds():
      for kv in (E4M3, None):
        b = Fp8Batch(xp, E4M3, kv, kv_lens=(33, 7, 64), layout="HND")
        said = (xp.workspace(), table_of(b), xp.ints(b.kv_lens), 96, 64 ** -0.5)
        b.close(self, flashinfer.trtllm_batch_decode_with_kv_cache(b.q8, (b.k, b.v), *said), E4M3)
        for dtype in ("float16",) + (("bfloat16",) if kv and REAL_TORCH and xp.is_torch else ()):
          result = flashinfer.trtllm_batch_decode_with_kv_cache(b.q8, (b.k, b.v), *said, 2.0, out_dtype=dtype, return_lse=True)
          b.close(self, result, dtype, scale=2.0)
        flashinfer.xqa(b.q8, b.k, b.v, table_of(b), xp.ints(b.kv_lens), out := xp.normal(3, 8, 64), kv_layout="HND")
        b.close(self, out, "float16")
        o = flashinfer.xqa(b.q8, b.k, b.v, table_of(b), xp.ints(b.kv_lens), kv_layout="HND", q_scale=0.5, rcp_out_scale=3.0)
        b.close(self, o, E4M3, oracle.Logits(sm_scale=0.5 * 64 ** -0.5), scale=3.0)
        decode = lambda **more: flashinfer.cudnn_batch_decode_with_kv_cache(
          b.q8, b.k, b.v, 64 ** -0.5, xp.workspace(), max_sequence_kv=96, actual_seq_lens_kv=xp.ints(b.kv_lens),
          block_tables=table_of(b), **more)
        b.close(self, decode(), E4M3)
        b.close(self, decode(out=xp.normal(3, 8, 64), return_lse=True), "float16")
        p, causal = Fp8Batch(xp, E4M3, kv, kv_lens=(33, 7, 64), qo_lens=(3, 1, 9), layout="HND"), oracle.Logits(causal=True)
        o = flashinfer.trtllm_batch_context_with_kv_cache(
          p.q8, (p.k, p.v), xp.workspace(), table_of(p), xp.ints(p.kv_lens), 9, 96, 64 ** -0.5, 1.0, 3, xp.ints(p.qo),
          None, out_dtype="float16")
        p.close(self, o, "float16", causal)
        for more, name, scale in (({}, E4M3, 1.0), ({"v_scale": 4.0}, E4M3, 4.0),
                                  ({"o_data_type": "float16"}, "float16", 1.0)):
          o, lse = flashinfer.cudnn_batch_prefill_with_kv_cache(
            p.q8, p.k, p.v, 64 ** -0.5, xp.workspace(), max_token_per_sequence=9, max_sequence_kv=96,
            actual_seq_lens_q=xp.ints(p.qo_lens), actual_seq_lens_kv=xp.ints(p.kv_lens), block_tables=table_of(p), causal=True,
            return_lse=True, **more)
          p.close(self, (o, np.concatenate([oracle.f64(lse)[i, :n] for i, n in enumerate(p.qo_lens)])), name, causal, scale)

  def test_ragged_keys(self):
    for xp in self.kinds():
      q, k, v = (bits_of(rng.standard_normal(shape), E4M3) for shape in ((12, 4, 64), (40, 4, 64), (40, 4, 64)))
      arrays, numbers = [typed(xp, x, E4M3) for x in (q, k, v)], [fp8.values(E4M3)[x] for x in (q, k, v)]
      qo, kv = (0, 5, 12), (0, 7, 40)
      want = np.concatenate([oracle.attention(numbers[0][a:b], *(x[c:d] for x in numbers[1:]), oracle.Logits(causal=True))[0]
                             for a, b, c, d in zip(qo, qo[1:], kv, kv[1:])])
      of_o, lens = oracle.tolerances("float16", numbers[1:], numbers[0])[0], (xp.ints(qo), xp.ints(kv))
      wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(xp.workspace())
      wrapper.plan(*lens, 4, 4, 64, causal=True, q_data_type=E4M3, kv_data_type=E4M3)
      self.close(wrapper.run(*arrays), want, E4M3, of_o)
      self.close(wrapper.run(*arrays, None, None, 3.0, o_scale=0.5), 6 * want, E4M3, 6 * of_o)
      if REAL_TORCH and xp.is_torch:
        for out in (None, typed(xp, np.zeros((12, 4, 64), np.uint8), E4M3)):
          o = flashinfer.trtllm_ragged_attention_deepseek(
            *arrays, xp.workspace(), xp.ints((7, 33)), 7, 33, 64 ** -0.5, 2.0, None, 2, -1, *lens, False, True, False, out=out)
          if out is None:
            self.assertIs(o.dtype, torch.bfloat16)
            close(self, o, 2 * want, 16 * of_o)
          else:
            self.close(out, 2 * want, E4M3, 2 * of_o)

  def test_graphs(self):
    """A graph's wrapper, fewer rows than it has, and a plan() behind the run()."""
    for xp in self.kinds():
      wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(xp.workspace(), max_batch_size=5, max_num_pages=40)
      for lens in ((33, 7, 64), (9, 50)):
        b = Fp8Batch(xp, E4M3, E4M3, kv_lens=lens)
        wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type=E4M3, kv_data_type=E4M3, o_data_type="float16")
        b.close(self, wrapper.run(b.q8, (b.k, b.v), q_scale=0.5), "float16", oracle.Logits(sm_scale=0.5 * 64 ** -0.5))


def bits_of_nan(x):
  return np.where(np.isnan(x), 0x7F, bits_of(np.nan_to_num(x), E4M3)).astype(np.uint8)


if __name__ == "__main__":
  main()
