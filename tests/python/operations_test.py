"""Merging, the paged cache, norms and RoPE from Python: each against float64, under FlashInfer's names."""
from support import Arrays, Batch, close, each_kind, flashladder, main, oracle, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer

F16 = 2.0 ** -11


class Merging(unittest.TestCase):
  def states(self, xp, dtype, n=5, states=3):
    return [(xp.normal(n, 4, 32, dtype=dtype), xp.normal(n, 4, dtype="float32")) for _ in range(states)]

  @each_kind
  def test_merge(self, xp):
    for dtype in ("float32", "float16"):
      a, b, c = self.states(xp, dtype)
      tolerance = 1e-5 if dtype == "float32" else 4 * F16
      v, s = flashinfer.merge_state(*a, *b)
      want = oracle.merged([a, b])
      close(self, v, want[0], tolerance)
      close(self, s, want[1], 1e-5, "s")
      together = [np.stack([xp.host(x[i]) for x in (a, b, c)], axis=1) for i in range(2)]
      v, s = flashinfer.merge_states(xp.of(together[0].astype(dtype)), xp.of(together[1].astype(np.float32)))
      want = oracle.merged([a, b, c])
      close(self, v, want[0], tolerance)
      close(self, s, want[1], 1e-5, "s")
      mask = np.array([1, 0, 1, 1, 0], bool)
      want = oracle.merged([a, b])
      kept = xp.host(a[0]).copy()
      flashinfer.merge_state_in_place(*a, *b, mask=xp.of(mask))
      close(self, xp.host(a[0])[mask], want[0][mask], tolerance)
      close(self, xp.host(a[0])[~mask], kept[~mask], 0.0)
      close(self, xp.host(a[1])[mask], want[1][mask], 1e-5, "s")

  def test_nothing_seen(self):
    xp = Arrays("numpy")
    (v, s), (w, t) = self.states(xp, "float32", states=2)
    s[0], t[0], t[1] = -np.inf, -np.inf, -np.inf
    o, lse = flashinfer.merge_state(v, s, w, t)
    want = oracle.merged([(v, s), (w, t)])
    close(self, o, want[0], 1e-5)
    close(self, lse, want[1], 1e-5, "s")


class Cache(unittest.TestCase):
  @each_kind
  def test_append(self, xp):
    for layout in ("NHD", "HND"):
      b = Batch(xp, layout=layout)
      indptr, indices, last = b.lists()
      appended = np.array([3, 0, 7, 1])
      append_indptr = xp.ints(np.cumsum([0, *appended]))
      lens = flashinfer.get_seq_lens(indptr, last, 16)
      self.assertEqual(xp.host(lens).tolist(), list(b.kv_lens))
      rows, positions = flashinfer.get_batch_indices_positions(append_indptr, lens, 13)
      want_rows = np.repeat(np.arange(4), appended)
      want_positions = np.concatenate([np.arange(n - a, n) for n, a in zip(b.kv_lens, appended)])
      self.assertEqual(xp.host(rows).tolist(), [*want_rows, -1, -1])
      self.assertEqual(xp.host(positions).tolist(), [*want_positions, 0, 0])
      k, v = xp.normal(13, 2, 64), xp.normal(13, 2, 64)
      flashinfer.append_paged_kv_cache(k, v, rows, positions, (b.k, b.v), indices, indptr, last, layout)
      pages = oracle.Pages(b.indptr, b.indices, b.last, 16, layout)
      for r in range(4):
        mine = want_rows == r
        for cache, new in ((b.k, k), (b.v, v)):
          have = pages.tokens(xp.host(cache), r)[want_positions[mine]]
          self.assertTrue(np.array_equal(have, xp.host(new)[:11][mine]))
      joined = b.joined
      flashinfer.append_paged_kv_cache(k, v, rows, positions, joined, indices, indptr, last, layout)
      self.assertTrue(np.array_equal(xp.host(joined)[:, 0], xp.host(b.k), equal_nan=True))
      slots = xp.of(np.array([5, -1, 16, *range(20, 30)], np.int64))
      flashladder.append_paged_kv_cache_by_slots(k, v, slots, (b.k, b.v), layout)
      at = (slice(1, 2), 0) if layout == "NHD" else (slice(1, 2), slice(None), 0)
      self.assertTrue(np.array_equal(xp.host(b.k)[at].reshape(2, 64), xp.host(k)[2]))


class Norms(unittest.TestCase):
  @each_kind
  def test_norms(self, xp):
    x, w, r = xp.normal(9, 96), xp.normal(96), xp.normal(9, 96)
    close(self, flashinfer.rmsnorm(x, w, eps=1e-5), oracle.rmsnorm(x, w, 1e-5), 16 * F16)
    close(self, flashinfer.gemma_rmsnorm(x, w), oracle.rmsnorm(x, w, plus=1.0), 24 * F16)
    out = xp.normal(9, 96)
    self.assertIs(flashinfer.rmsnorm(x, w, out=out), out)
    for fused, plus in ((flashinfer.fused_add_rmsnorm, 0.0), (flashinfer.gemma_fused_add_rmsnorm, 1.0)):
      a, b = (xp.of(xp.host(y).astype(np.float16)) for y in (x, r))
      fused(a, b, w)
      total = xp.host(x) + xp.host(r)
      close(self, b, total, 4 * F16)
      close(self, a, oracle.rmsnorm(total, w, plus=plus), 24 * F16)
    g, beta = xp.normal(96, dtype="float32"), xp.normal(96, dtype="float32")
    y = xp.host(x)
    want = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6) * xp.host(g) + xp.host(beta)
    close(self, flashinfer.layernorm(x, g, beta), want, 16 * F16)
    heads = xp.normal(9, 3, 32)
    close(self, flashinfer.rmsnorm(heads, xp.of(xp.host(w)[:32].astype(np.float16))), oracle.rmsnorm(heads, xp.host(w)[:32]),
          16 * F16)


class Rope(unittest.TestCase):
  def both(self, xp, in_place, out_of_place, arguments, positions, **angles):
    q, k = xp.normal(7, 4, 32), xp.normal(7, 2, 32)
    want = [oracle.rotated(oracle.f64(x), positions, **angles) for x in (q, k)]
    a, b = out_of_place(q, k, *arguments)
    close(self, a, want[0], 16 * F16)
    close(self, b, want[1], 16 * F16)
    in_place(q, k, *arguments)
    close(self, q, want[0], 16 * F16)
    close(self, k, want[1], 16 * F16)

  @each_kind
  def test_rope(self, xp):
    ids = np.array([0, 3, 9, 100, 5, 5, 77])
    self.both(xp, flashinfer.apply_rope_pos_ids_inplace, flashinfer.apply_rope_pos_ids, (xp.ints(ids),), ids)
    self.both(xp, flashinfer.apply_rope_pos_ids_inplace, flashinfer.apply_rope_pos_ids, (xp.ints(ids), 16, True, 2.0, 5000.0),
              ids, rotary_dim=16, interleave=True, scale=2.0, theta=5000.0)
    indptr, offsets = xp.ints([0, 3, 7]), xp.ints([10, 50])
    positions = np.array([10, 11, 12, 50, 51, 52, 53])
    self.both(xp, flashinfer.apply_rope_inplace, flashinfer.apply_rope, (indptr, offsets), positions)
    llama31 = {"scale": 8.0, "theta": 5e5, "llama31": (1, 4, 8192)}
    self.both(xp, flashinfer.apply_llama31_rope_pos_ids_inplace, flashinfer.apply_llama31_rope_pos_ids, (xp.ints(ids * 900),),
              ids * 900, **llama31)
    self.both(xp, flashinfer.apply_llama31_rope_inplace, flashinfer.apply_llama31_rope, (indptr, offsets), positions,
              **llama31)

  @each_kind
  def test_cos_sin_cache(self, xp):
    ids = np.array([0, 3, 9, 100, 5, 5, 77])
    like = xp.normal(1)
    table = flashinfer.precompute_freqs_cis(32, 128, like=like)
    for positions in (xp.ints(ids), xp.of(ids.astype(np.int64))):
      for flat in (False, True):
        q, k = xp.normal(7, 4, 32), xp.normal(7, 2, 32)
        want = [oracle.rotated(oracle.f64(x), ids) for x in (q, k)]
        fused = np.concatenate([xp.host(q).reshape(7, 128), xp.host(k).reshape(7, 64)], axis=1)
        fused = xp.of(fused.astype(np.float16))
        given = (fused[:, :128], fused[:, 128:]) if flat else (q, k)   # rows of a fused QKV are written where they lie
        flashinfer.apply_rope_with_cos_sin_cache_inplace(positions, *given, 32, table)
        for x, y in zip(given, want):
          close(self, oracle.f64(x).reshape(y.shape), y, 16 * F16)
    # int64 is not converted: rows of int32, of int64 and of every second int64 are the same bits, and a position beyond 2^32
    # is refused on the CPU, not cut.
    given, wide = (xp.normal(7, 4, 32), xp.normal(7, 2, 32)), np.repeat(ids.astype(np.int64), 2)
    want = flashinfer.apply_rope_with_cos_sin_cache(xp.ints(ids), *given, 32, table)
    for positions in (xp.of(ids.astype(np.int64)), xp.of(wide)[::2]):
      for x, y in zip(flashinfer.apply_rope_with_cos_sin_cache(positions, *given, 32, table), want):
        self.assertEqual(xp.host(x).tobytes(), xp.host(y).tobytes())
    if not xp.on_gpu:
      with self.assertRaisesRegex(ValueError, r"positions\[3\] = 4294967396: must be a row of cos_sin_cache"):
        flashinfer.apply_rope_with_cos_sin_cache(xp.of(ids.astype(np.int64) + (1 << 32) * (ids == 100)), *given, 32, table)
    q, k = flashinfer.apply_rope_with_cos_sin_cache(xp.ints(ids), xp.normal(7, 4, 32), xp.normal(7, 2, 32), 32, table, False)
    with self.assertRaisesRegex(ValueError, "head_size"):
      flashinfer.apply_rope_with_cos_sin_cache(xp.ints(ids), q, k, 64, table)


class Refusals(unittest.TestCase):
  def test_sentences(self):
    xp = Arrays("numpy")
    x = xp.normal(4, 32)
    for call, words in ((lambda: flashinfer.rmsnorm(x, xp.normal(31)), "weight"),
                        (lambda: flashinfer.rmsnorm(x, xp.normal(32), out=xp.normal(4, 31)), "out shape"),
                        (lambda: flashinfer.merge_state(x, x, x, x), "v_a|rank|shape"),
                        (lambda: flashinfer.apply_rope_pos_ids_inplace(x, x, xp.ints([1])), "pos_ids"),
                        (lambda: flashinfer.rmsnorm("x", x), "array"),
                        (lambda: flashinfer.xqa_mla(x, x, x.copy(), x, x), "v_cache.*a latent row is both")):
      with self.assertRaisesRegex(ValueError, words):
        call()
    with self.assertRaisesRegex(AttributeError, "sampling"):
      flashinfer.top_k_sampling_from_probs


if __name__ == "__main__":
  main()
