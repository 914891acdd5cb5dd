"""What becomes fp8 from Python: norms, RoPE on the way into arrays and pages, and outputs of attention. Each number is the
float64 one over its scale, rounded to the nearest fp8 number, or to the other one where float cannot tell which is nearer."""
from support import KINDS, Arrays, Batch, each_kind, main, oracle, rng, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import quantised
from flashladder.flashinfer import rope

try:
  import ml_dtypes
except ImportError:
  ml_dtypes = None
NAMES = ("float8_e4m3fn", "float8_e5m2")
THREE = {NAMES[0]: 0x44, NAMES[1]: 0x42}  # the bits of 3
MANTISSA, BIAS = {NAMES[0]: 3, NAMES[1]: 2}, {NAMES[0]: 7, NAMES[1]: 15}


def values(name):
  """What the 256 bit patterns stand for; NaN where they are none, or infinite."""
  m, bits = MANTISSA[name], np.arange(256)
  exponent, fraction = (bits & 0x7F) >> m, (bits & ((1 << m) - 1)) / (1 << m)
  x = np.where(exponent == 0, fraction * 2.0 ** (1 - BIAS[name]), (1 + fraction) * 2.0 ** (exponent - float(BIAS[name])))
  x[(bits & 0x7F) > (0x7E if m == 3 else 0x7B)] = np.nan
  return np.where(bits & 0x80, -x, x)


def rounded(x, name):
  """x, saturated, to the nearest number of an fp8, to the even one of two."""
  table = np.sort(values(name)[:128][np.isfinite(values(name)[:128])])
  y = np.minimum(np.abs(x), table[-1])
  above = np.clip(np.searchsorted(table, y), 1, len(table) - 1)
  low, high = table[above - 1], table[above]
  up = (y - low > high - y) | ((y - low == high - y) & (above % 2 == 0))
  return np.copysign(np.where(up, high, low), x)


def stored(x, name):
  """float64 of an fp8 array, or of bytes."""
  if "uint8" in str(x.dtype):
    return values(name)[np.asarray(x.cpu().numpy() if hasattr(x, "cpu") else x)]
  return oracle.f64(x.astype(np.float64) if isinstance(x, np.ndarray) else x)


class Quantised(unittest.TestCase):
  def check(self, have, want, name, off=2.0 ** -18):
    """off: how far, of itself, float may be from the number that is rounded; of ties it decides."""
    have = stored(have, name)
    self.assertEqual(have.shape, want.shape)
    either = [rounded(want * (1 + sign * off), name) for sign in (-1, 0, 1)]
    right = np.logical_or.reduce([have == x for x in either])
    self.assertTrue(right.all(), f"{(~right).sum()} of {right.size} differ: {have[~right][:4]} for {want[~right][:4]}")

  def fp8_kinds(self):
    """(arrays, a function that makes an fp8 array of a shape) of the kinds that have one."""
    kinds = []
    if ml_dtypes is not None:
      kinds.append((Arrays("numpy"), lambda shape, name: np.full(shape, 3, getattr(ml_dtypes, name))))
    if hasattr(torch, NAMES[0]):
      kinds += [(xp, lambda shape, name, xp=xp: xp.of(np.full(shape, THREE[name], np.uint8)).view(getattr(torch, name)))
                for xp in map(Arrays, KINDS[1:])]
    if not kinds:
      self.skipTest("needs torch with float8_e4m3fn, or ml_dtypes")
    return kinds


class Norms(Quantised):
  @each_kind
  def test_into_bytes(self, xp):
    x, r, w = xp.normal(9, 96), xp.normal(9, 96), xp.normal(96)
    total = xp.host(x) + xp.host(r)
    for name in NAMES:
      for scale in (0.02, 3, xp.of(np.array([0.3], np.float32)), xp.of(np.array(0.25, np.float32))):
        number = float(scale) if not hasattr(scale, "reshape") else float(xp.host(scale).reshape(-1)[0])
        out = xp.of(np.full((9, 96), 0x7F, np.uint8))
        kept = xp.host(x).copy()
        flashinfer.rmsnorm_quant(out, x, w, scale, 1e-5, out_dtype=name)
        self.check(out, oracle.rmsnorm(x, w, 1e-5) / number, name)
        residual = xp.of(xp.host(r).astype(np.float16))
        flashinfer.norm.fused_add_rmsnorm_quant(out, x, residual, w, scale, 1e-5, out_dtype=name)
        self.check(out, oracle.rmsnorm(total, w, 1e-5) / number, name)
        self.assertTrue(np.array_equal(xp.host(residual), total.astype(np.float16).astype(np.float64)))
        self.assertTrue(np.array_equal(xp.host(x), kept))

  @each_kind
  def test_layernorm_into_bytes(self, xp):
    x, gamma, beta = xp.normal(9, 96), xp.normal(96, dtype="float32"), xp.normal(96, dtype="float32")
    numbers = xp.host(x)
    away = numbers - numbers.mean(axis=1, keepdims=True)
    want = away / np.sqrt((away * away).mean(axis=1, keepdims=True) + 1e-5) * xp.host(gamma) + xp.host(beta)
    for name in NAMES:
      for scale in (0.02, xp.of(np.array([0.3], np.float32))):
        number, out = scale if isinstance(scale, float) else float(xp.host(scale)[0]), xp.of(np.full((9, 96), 0x7F, np.uint8))
        flashinfer.layernorm_quant(out, x, gamma, beta, scale, 1e-5, out_dtype=name)
        off = 2.0 ** -18 + 2.0 ** -18 * np.abs(xp.host(beta)) / np.maximum(np.abs(want), 1e-30)  # of sums of two signs
        self.check(out, want / number, name, off)
    with self.assertRaisesRegex(ValueError, "beta"):
      flashinfer.layernorm_quant(out, x, gamma, beta[:5], 1.0)
    with self.assertRaisesRegex(AttributeError, "norm has no fused_rmsnorm_silu: it has RMSNorm"):
      self.assertIsNone(flashinfer.norm.fused_rmsnorm_silu)

  def test_into_fp8(self):
    for xp, empty in self.fp8_kinds():
      x, w = xp.normal(5, 64), xp.normal(64)
      for name in NAMES:
        out = empty((5, 64), name)
        flashinfer.rmsnorm_quant(out, x, w, 0.5)
        self.check(out, oracle.rmsnorm(x, w) / 0.5, name)

  def test_refusals(self):
    xp = Arrays("numpy")
    x, w, out = xp.normal(4, 32), xp.normal(32), np.zeros((4, 32), np.uint8)
    for call, words in ((lambda: flashinfer.rmsnorm_quant(xp.normal(4, 32), x, w, 1.0), "out dtype = float16"),
                        (lambda: flashinfer.rmsnorm_quant(out, x, w, 0.0), "scale = 0.0: must be greater"),
                        (lambda: flashinfer.rmsnorm_quant(out, x, w, np.nan), "scale = nan"),
                        (lambda: flashinfer.rmsnorm_quant(out, x, w, np.ones(2, np.float32)), "scale shape"),
                        (lambda: flashinfer.rmsnorm_quant(out, x, w, 1.0, out_dtype="float16"), "out dtype"),
                        (lambda: flashinfer.rmsnorm_quant(out[:3], x, w, 1.0), "out")):
      with self.assertRaisesRegex(ValueError, words):
        call()
    self.assertTrue((out == 0).all())


class Rope(Quantised):
  def setUp(self):
    self.ids = np.array([0, 3, 9, 100, 5, 5, 77, 12])
    self.table = flashinfer.precompute_freqs_cis(32, 128, like=np.zeros(1, np.float32))

  def turned(self, x, is_neox):
    x = oracle.f64(x)
    return oracle.rotated(x if x.ndim == 3 else x[:, None], self.ids, interleave=not is_neox).reshape(x.shape)

  def test_arrays(self):
    for xp, empty in self.fp8_kinds():
      table, ids, wide = xp.of(self.table), xp.ints(self.ids), "float16" if xp.on_gpu else "float32"  # a GPU takes no f32
      for name in NAMES:
        for is_neox, latent, dtype in ((True, False, "float16"), (False, True, "float16"), (True, True, wide)):
          q, k = (xp.normal(*shape, dtype=dtype) for shape in ((8, 4, 48), (8, 48) if latent else (8, 2, 48)))
          outs = rope.rope_quantize_fp8(q[..., 16:], k[..., 16:], q[..., :16], k[..., :16], table, ids, is_neox, name, 0.3,
                                        4.0)
          for x, scale, (turned, kept) in ((q, 0.3, outs[::2]), (k, 4.0, outs[1::2])):
            self.check(turned, self.turned(x[..., 16:], is_neox) * scale, name, off=2.0 ** -14)
            self.check(kept, oracle.f64(x)[..., :16] * scale, name)
      q_out = empty((8, 4, 32), NAMES[1])
      outs = rope.mla_rope_quantize_fp8(xp.of(oracle.f64(q)[..., 16:].astype(np.float16)), xp.normal(8, 32), None, None, table,
                                        ids, q_rope_out=q_out)
      self.assertIs(outs[0], q_out)
      self.check(q_out, self.turned(oracle.f64(q)[..., 16:].astype(np.float16), True), NAMES[1], off=2.0 ** -14)
      self.assertEqual(tuple(outs[2].shape), (8, 4, 0))

  def appended(self, xp, empty, layout, latent, name):
    """A call on a cache whose other slots must keep their 3s."""
    q, k, v = xp.normal(8, 4, 48), xp.normal(8, 48) if latent else xp.normal(8, 2, 48), xp.normal(8, 2, 48)
    shape = (6, 4, 2, 48) if layout == "NHD" else (6, 2, 4, 48)
    cache = tuple(empty((6, 4, dim), name) for dim in (16, 32)) if latent else (empty(shape, name), empty(shape, name))
    rows, positions = np.array([0, 0, 0, 1, 1, -1, 1, 0]), np.array([1, 2, 5, 0, 3, 9, 2, 7])
    parts = [x[..., a] for x in (q, k) for a in (slice(0, 32), slice(32, 48))]
    outs = rope.rope_quantize_fp8_append_paged_kv_cache(
      parts[0], parts[2], parts[1], parts[3], None if latent else v, xp.of(self.table), xp.ints(self.ids), cache,
      xp.ints([4, 1, 3]), xp.ints([0, 2, 3]), xp.ints(rows), xp.ints(positions), True, name, 2.0, 0.3, 4, layout)
    slots = [None if r < 0 else ([4, 1, 3][[0, 2][r] + p // 4], p % 4) for r, p in zip(rows, positions)]
    return (q, k, v), outs, cache, slots

  def test_pages(self):
    for xp, empty in self.fp8_kinds():
      for name, layout, latent in ((NAMES[0], "NHD", False), (NAMES[1], "HND", False), (NAMES[0], "NHD", True)):
        (q, k, v), outs, cache, slots = self.appended(xp, empty, layout, latent, name)
        mine = np.array([s is not None for s in slots])
        self.check(outs[0][:5], (self.turned(q[..., :32], True) * 2.0)[:5], name, off=2.0 ** -14)
        self.check(outs[1][6:], oracle.f64(q)[6:, :, 32:] * 2.0, name)
        turned, kept = self.turned(k[..., :32], True) * 0.3, oracle.f64(k)[..., 32:] * 0.3
        want = (kept, turned) if latent else (np.concatenate([turned, kept], axis=-1), oracle.f64(v) * 0.3)
        for x, numbers in zip(cache, want):
          x = stored(x, name)
          x = x.swapaxes(1, 2) if layout == "HND" else x
          self.check(np.stack([x[s] for s in slots if s is not None]), numbers[mine], name, off=2.0 ** -14)
          untouched = np.ones(x.shape[:2], bool)
          for s in slots:
            untouched[s if s is not None else (0, 0)] = False
          self.assertTrue((x[untouched] == 3).all())

  def test_refusals(self):
    xp, empty = self.fp8_kinds()[0]
    q, k, v, table, ids = xp.normal(2, 4, 32), xp.normal(2, 2, 32), xp.normal(2, 2, 32), xp.of(self.table), xp.ints([0, 1])
    cache = (empty((3, 4, 2, 32), NAMES[0]), empty((3, 4, 2, 32), NAMES[0]))

    def call(v=v, cache=cache, indptr=(0, 2), positions=(0, 7), page_size=4, name=NAMES[0], scale=1.0):
      rope.rope_quantize_fp8_append_paged_kv_cache(q, k, None, None, v, table, ids, cache, xp.ints([0, 1]), xp.ints(indptr),
                                                   xp.ints([0, 0]), xp.ints(positions), True, name, scale, 1.0, page_size)
    call()
    for said, words in (({"v": None}, "v = None"), ({"cache": cache[:1]}, "paged_kv_cache"), ({"positions": (0, 8)}, "slot"),
                        ({"page_size": 16}, "page_size = 16: must be 4"), ({"name": "float16"}, "quantize_dtype"),
                        ({"scale": 0.0}, "quant_scale_q"), ({"indptr": (0,)}, "kv_indptr"),
                        ({"name": NAMES[1]}, "must be float8_e5m2")):
      with self.assertRaisesRegex(ValueError, words):
        call(**said)


class Outputs(Quantised):
  def close(self, have, want, name, tolerance):
    """o is off by a tolerance before it is rounded."""
    have = stored(have, name)
    low, high = rounded(want - tolerance, name), rounded(want + tolerance, name)
    self.assertTrue(((have >= low) & (have <= high)).all())
    self.assertGreater((have != 0).mean(), 0.9)

  def test_wrappers(self):
    for xp, empty in self.fp8_kinds():
      b, name = Batch(xp, kv_lens=(33, 7, 64)), NAMES[0]
      of_o = b.tolerances(oracle.Logits())[0]
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
      for _ in range(2):
        wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float16", o_data_type=name)
        self.close(wrapper.run(b.q, (b.k, b.v)), b.want()[0], name, of_o)
      out = empty((3, 8, 64), name)
      self.assertIs(wrapper.run(b.q, (b.k, b.v), out=out, v_scale=40.0), out)
      self.close(out, 40.0 * b.want()[0], name, 40 * of_o)
      with self.assertRaisesRegex(ValueError, "out"):
        wrapper.run(b.q, (b.k, b.v), out=xp.normal(3, 8, 64))
      wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type="float16")
      b.check(self, wrapper.run(b.q, (b.k, b.v)))
      b = Batch(xp, kv_lens=(33, 7, 64), qo_lens=(3, 1, 9))
      prefill, logits = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace()), oracle.Logits(causal=True)
      prefill.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True, q_data_type="float16", o_data_type=NAMES[1])
      for said, base in (({}, 1.0), ({"lse_base": "ln"}, oracle.LOG2_E)):
        o, lse = prefill.run(b.q, (b.k, b.v), return_lse=True, **said)
        self.close(o, b.want(logits)[0], NAMES[1], of_o)
        self.assertLess(np.abs(xp.host(lse) * base - b.want(logits)[1]).max(), 1e-3)

  def test_block_tables(self):
    for xp, empty in self.fp8_kinds():
      b, name = Batch(xp, kv_lens=(33, 7, 64), layout="HND"), NAMES[0]
      of_o, table = b.tolerances(oracle.Logits())[0], np.zeros((3, 6), np.int32)
      for r in range(3):
        table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
      said = (xp.workspace(), xp.of(table), xp.ints(b.kv_lens), 96, 64 ** -0.5)
      out = empty((3, 8, 64), name)
      o, lse = flashinfer.trtllm_batch_decode_with_kv_cache(b.q, (b.k, b.v), *said, 5.0, out=out, o_scale=0.2, return_lse=True)
      self.assertIs(o, out)
      self.close(out, 5 * b.want()[0], name, 5 * of_o)
      o = flashinfer.trtllm_batch_decode_with_kv_cache(b.q, (b.k, b.v), *said, out_dtype=NAMES[1])
      self.close(o, b.want()[0], NAMES[1], of_o)
      flashinfer.xqa(b.q, b.k, b.v, xp.of(table), xp.ints(b.kv_lens), out, kv_layout="HND", rcp_out_scale=3.0)
      self.close(out, 3 * b.want()[0], name, 3 * of_o)
      with self.assertRaisesRegex(ValueError, "rcp_out_scale"):
        flashinfer.xqa(b.q, b.k, b.v, xp.of(table), xp.ints(b.kv_lens), kv_layout="HND", rcp_out_scale=3.0)

  def test_calls_of_16_bits(self):
    """fp8 outputs of calls whose queries are not."""
    for xp, empty in self.fp8_kinds():
      b, logits = Batch(xp, kv_lens=(33, 7, 64), qo_lens=(3, 1, 9), layout="HND"), oracle.Logits(causal=True)
      of_o, table = b.tolerances(logits)[0], np.zeros((3, 6), np.int32)
      for r in range(3):
        table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
      for name in NAMES:
        for more, out in (({"o_data_type": name}, None), ({}, empty((13, 8, 64), name))):
          o, lse = flashinfer.cudnn_batch_prefill_with_kv_cache(
            b.q, b.k, b.v, 64 ** -0.5, xp.workspace(), max_token_per_sequence=9, max_sequence_kv=96, causal=True, v_scale=5.0,
            actual_seq_lens_q=xp.ints(b.qo_lens), actual_seq_lens_kv=xp.ints(b.kv_lens), block_tables=xp.of(table),
            return_lse=True, out=out, **more)
          self.assertTrue(out is None or o is out)
          self.close(o, 5 * b.want(logits)[0], name, 5 * of_o)
          self.assertLess(np.abs(xp.host(lse)[2] - b.want(logits)[1][4:]).max(), 1e-3)
        q, k, v = xp.normal(5, 4, 64), xp.normal(33, 2, 64), xp.normal(33, 2, 64)
        want, of_one = oracle.attention(q, k, v)[0], oracle.tolerances("float16", (k, v), q)[0]
        self.close(flashinfer.single_prefill_with_kv_cache(q, k, v, o_dtype=name), want, name, of_one)
        o, _ = flashinfer.cudnn_batch_prefill_with_kv_cache(
          q, k, v, 64 ** -0.5, xp.workspace(), max_token_per_sequence=5, max_sequence_kv=33, causal=False, return_lse=False,
          actual_seq_lens_q=xp.ints([5]), actual_seq_lens_kv=xp.ints([33]), o_data_type=name)
        self.close(o, want, name, of_one)

  def test_rows(self):
    for xp, empty in self.fp8_kinds():
      x = xp.normal(7, 3, 20, dtype="float32")
      for name in NAMES:
        out = empty((7, 3, 20), name)
        quantised.quantise(x, out, scale=0.3)
        self.check(out, xp.host(x) / 0.3, name)
        pages = empty((3, 4, 3, 20), name)
        quantised.quantise(x, pages, xp.of(np.array([11, -1, 0, 5, 6, 7, 8])), 0.3)
        have = stored(pages, name).reshape(12, 3, 20)
        self.assertTrue(np.array_equal(have[[11, 0, 5]], stored(out, name)[[0, 2, 3]]))
        self.assertTrue((have[[1, 2, 3, 4, 9, 10]] == 3).all())
      with self.assertRaisesRegex(ValueError, "must be even"):
        quantised.quantise(xp.normal(2, 3, 5), empty((2, 3, 5), name))


class Oracle(unittest.TestCase):
  def test_rounding(self):
    for name, most in zip(NAMES, (448.0, 57344.0)):
      finite = values(name)[np.isfinite(values(name))]
      self.assertTrue(np.array_equal(np.abs(rounded(finite, name)), np.abs(finite)))
      self.assertEqual(rounded(np.array([1e9, -1e9]), name).tolist(), [most, -most])
      self.assertEqual(rounded(np.array([1.0 + 2.0 ** -(MANTISSA[name] + 1)]), name).tolist(), [1.0])
      if ml_dtypes is not None:
        x = rng.standard_normal(4000) * 10.0 ** rng.uniform(-4, 2, 4000)
        self.assertTrue(np.array_equal(rounded(x, name), x.astype(getattr(ml_dtypes, name)).astype(np.float64)))


if __name__ == "__main__":
  main()
