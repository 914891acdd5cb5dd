"""What is made for CUDA graphs, on the CPU, where a replay is another run(): batches of other lengths, one after the other on
the same memory, against float64, and bit for bit against an object that has planned nothing else. gpu_graphs_test.py captures
and replays."""
from support import Arrays, Batch, close, each_kind, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder
import flashladder.flashinfer as flashinfer
from flashladder import AttentionConfig, Limits

CAUSAL = oracle.Logits(causal=True)


def bits_of(x):
  """The array on the host, as it is."""
  return x.detach().cpu().numpy() if hasattr(x, "detach") else x


def same(a, b):
  return all(np.array_equal(bits_of(x), bits_of(y), equal_nan=True) for x, y in zip(a, b))


class Shared:
  """Requests of which the first `sharing` share a prefix; the others have none. Their own pages, and queries, may be none."""

  def __init__(self, xp, prefix, own, qo_lens, sharing):
    self.xp, self.b = xp, Batch(xp, kv_lens=(prefix, *own), qo_lens=(0, *qo_lens))
    b, first = self.b, int(self.b.indptr[1])
    self.qo, self.rows, self.sharing = np.cumsum([0, *qo_lens]), sum(qo_lens), sharing
    split = int(self.qo[sharing])
    self.lengths = ([[0, split, self.rows], self.qo], [[0, first, first], b.indptr[1:] - first],
                    [b.indices[:first], b.indices[first:]], [[int(b.last[0]), 0], b.last[1:]])

  def lists(self):
    """qo_indptr, paged_kv_indptr, paged_kv_indices and last_page_len, each of two levels."""
    return [[self.xp.ints(level) for level in levels] for levels in self.lengths]

  def check(self, test, o, lse=None):
    k, v = oracle.split_cache((self.b.k, self.b.v))
    pages = oracle.Pages(self.b.indptr, self.b.indices, self.b.last, 16)
    of_o, of_lse = self.b.tolerances(CAUSAL)
    for i in range(len(self.qo) - 1):
      rows, own = slice(int(self.qo[i]), int(self.qo[i + 1])), [pages.tokens(x, i + 1) for x in (k, v)]
      if i < self.sharing:
        own = [np.concatenate([pages.tokens(x, 0), tokens]) for x, tokens in zip((k, v), own)]
      want = oracle.attention(self.xp.host(self.b.q)[rows], *own, CAUSAL)
      close(test, self.xp.host(o)[rows], want[0], of_o)
      if lse is not None:
        close(test, self.xp.host(lse)[rows], want[1], of_lse, "lse")


def shared_batches(xp):
  """The largest first; then fewer rows, requests without queries, without keys, without a prefix, and no row at all."""
  return [Shared(xp, 48, (33, 20, 7, 64), (9, 5, 1, 20), 3), Shared(xp, 16, (5, 0, 1, 0), (2, 0, 1, 0), 3),
          Shared(xp, 80, (1, 3, 2, 9), (1, 3, 1, 9), 2), Shared(xp, 32, (4, 4, 4, 4), (1, 1, 1, 1), 4),
          Shared(xp, 16, (3, 0, 0, 0), (0, 0, 0, 0), 1)]


def cascade_wrapper(xp, levels=((2, 8), (4, 12))):
  ints = lambda n: xp.ints(np.zeros(n))
  return flashinfer.MultiLevelCascadeAttentionWrapper(
    2, xp.workspace(), "NHD", True, [ints(n + 1) for n, _ in levels], [ints(n + 1) for n, _ in levels],
    [ints(pages) for _, pages in levels], [ints(n) for n, _ in levels])


def ragged_wrapper(xp, layout="NHD", **more):
  return flashinfer.BatchPrefillWithRaggedKVCacheWrapper(xp.workspace(), layout, True, xp.ints(np.zeros(4)),
                                                         xp.ints(np.zeros(4)), **more)


def paged_wrapper(xp, buffer):
  ints = lambda n: xp.ints(np.zeros(n))
  return flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace(), "NHD", True, ints(5), ints(5), ints(40), ints(4),
                                                        custom_mask_buf=buffer, mask_indptr_buf=ints(5))


class Cascades(unittest.TestCase):
  @each_kind
  def test_wrapper(self, xp):
    batches = shared_batches(xp)
    wrapper = cascade_wrapper(xp)
    self.assertTrue(wrapper.is_cuda_graph_enabled)
    plan = lambda w, x: w.plan(*x.lists(), 8, 2, 64, 16, causal=True)
    run = lambda w, x: w.run(x.b.q, (x.b.k, x.b.v))
    for x in [*batches, *batches[::-1]]:
      plan(wrapper, x)
      o = run(wrapper, x)
      x.check(self, o)
      fresh = cascade_wrapper(xp)
      plan(fresh, batches[0])
      plan(fresh, x)
      self.assertTrue(same([o], [run(fresh, x)]))
    self.assertIn("level 1", wrapper.explain())
    more = Shared(xp, 48, (33, 20, 7, 64), (9, 5, 1, 21), 3)
    with self.assertRaisesRegex(ValueError, "max_nnz_qo 35"):
      plan(wrapper, more)
    with self.assertRaisesRegex(ValueError, "level 1: groups = 3: must be 4"):
      wrapper.plan(*Shared(xp, 48, (33, 20, 7), (9, 5, 1), 3).lists(), 8, 2, 64, 16, causal=True)
    with self.assertRaisesRegex(ValueError, "a buffer for each level"):
      flashinfer.MultiLevelCascadeAttentionWrapper(2, xp.workspace(), "NHD", True, [xp.ints([0])], None, None, None)

  @each_kind
  def test_class(self, xp):
    """All rows that the limits allow: those behind the batch's are not read, and not written."""
    batches = shared_batches(xp)
    config = AttentionConfig(8, 2, 64, page_size=16, mask="causal")
    limits = [Limits(2, 8, 35), Limits(4, 12, 35)]
    make = lambda: flashladder.CUDAGraphMultiLevelCascadeAttention(config, limits, batches[0].b.q)
    cascade = make()
    with self.assertRaisesRegex(ValueError, "must come after plan"):
      cascade.run(batches[0].b.q, (batches[0].b.k, batches[0].b.v))
    for x in [*batches, *batches[::-1]]:
      q, out = (np.full((35, 8, 64), np.nan, np.float16) for _ in range(2))
      q[:x.rows], lse = bits_of(x.b.q)[:x.rows], np.full((35, 8), np.nan, np.float32)
      q, out, lse = xp.of(q), xp.of(out), xp.of(lse)
      qo, indptr, ids, last = x.lists()
      results = []
      for c in (cascade, make()):
        c.plan(qo, indptr, last, ids)
        c.run(q, (x.b.k, x.b.v), out, lse)
        x.check(self, out, lse)
        results.append([bits_of(out).copy(), bits_of(lse).copy()])
        self.assertTrue(np.isnan(xp.host(out)[x.rows:]).all() and np.isnan(xp.host(lse)[x.rows:]).all())
      self.assertTrue(same(*results))


class RaggedKeys(unittest.TestCase):
  def batch(self, xp, qo_lens, kv_lens):
    return xp.normal(sum(qo_lens), 8, 64), xp.normal(sum(kv_lens), 2, 64), xp.normal(sum(kv_lens), 2, 32), qo_lens, kv_lens

  def check(self, xp, batch, result, masks=None):
    q, k, v, qo_lens, kv_lens = batch
    qo, kv = np.cumsum([0, *qo_lens]), np.cumsum([0, *kv_lens])
    of_o, of_lse = oracle.tolerances("float16", (k, v), q)
    for i in range(len(qo_lens)):
      want = oracle.attention(xp.host(q)[qo[i]:qo[i + 1]], xp.host(k)[kv[i]:kv[i + 1]], xp.host(v)[kv[i]:kv[i + 1]],
                              CAUSAL if masks is None else oracle.Logits(custom_mask=masks[i]))
      close(self, xp.host(result[0])[qo[i]:qo[i + 1]], want[0], of_o)
      close(self, xp.host(result[1])[qo[i]:qo[i + 1]], want[1], of_lse, "lse")

  def plan(self, xp, wrapper, batch, **more):
    wrapper.plan(xp.ints(np.cumsum([0, *batch[3]])), xp.ints(np.cumsum([0, *batch[4]])), 8, 2, 64, 32, **more)

  def filled(self, xp, batch, tokens=90):
    """k and v with room for so many tokens, NaN behind the batch's."""
    k, v = np.full((tokens, 2, 64), np.nan, np.float16), np.full((tokens, 2, 32), np.nan, np.float16)
    k[:sum(batch[4])], v[:sum(batch[4])] = bits_of(batch[1]), bits_of(batch[2])
    return xp.of(k), xp.of(v)

  def batches(self, xp):
    return [self.batch(xp, qo_lens, kv_lens) for qo_lens, kv_lens in (
      ((10, 1, 9), (40, 7, 33)), ((1, 0, 1), (90, 0, 0)), ((0, 0, 0), (5, 0, 6)), ((2, 12, 3), (1, 60, 3)))]

  @each_kind
  def test_wrapper(self, xp):
    for layout in ("NHD", "HND"):
      turned = lambda kv: kv if layout == "NHD" else tuple(
        xp.of(bits_of(x).swapaxes(0, 1)) for x in kv)
      batches, wrapper = self.batches(xp), ragged_wrapper(xp, layout)
      for batch in [*batches, *batches[::-1]]:
        results = []
        for w in (wrapper, ragged_wrapper(xp, layout)):
          if w is not wrapper:
            self.plan(xp, w, batches[0], causal=True)
            w.run(batches[0][0], *turned(self.filled(xp, batches[0])))
          self.plan(xp, w, batch, causal=True)
          results.append(w.run(batch[0], *turned(self.filled(xp, batch)), return_lse=True))
          self.check(xp, batch, results[-1])
        self.assertTrue(same(*results))
    with self.assertRaisesRegex(ValueError, "k shape.0. = 89: must be at least max_pages of the graph .90."):
      wrapper.run(batches[0][0], *turned(self.filled(xp, batches[0], 89)))
    with self.assertRaisesRegex(ValueError, "tokens = 91: exceeds"):
      self.plan(xp, wrapper, self.batch(xp, (1, 1, 1), (90, 1, 0)), causal=True)
    with self.assertRaisesRegex(ValueError, "first plan"):
      self.plan(xp, wrapper, self.batch(xp, (20, 1, 0), (9, 1, 0)), causal=True)
    with self.assertRaisesRegex(ValueError, "batch = 2: must be 3"):
      self.plan(xp, wrapper, self.batch(xp, (2, 1), (9, 1)), causal=True)
    with self.assertRaisesRegex(ValueError, "needs qo_indptr_buf and kv_indptr_buf"):
      flashinfer.BatchPrefillWithRaggedKVCacheWrapper(xp.workspace(), "NHD", True, xp.ints(np.zeros(4)))

  @each_kind
  def test_what_the_first_plan_was_given_may_change(self, xp):
    """It is carried out by the first run(), of what its arguments were."""
    batch, wrapper = self.batches(xp)[0], ragged_wrapper(xp)
    qo, kv = xp.ints(np.cumsum([0, *batch[3]])), xp.ints(np.cumsum([0, *batch[4]]))
    wrapper.plan(qo, kv, 8, 2, 64, 32, causal=True)
    qo[:], kv[:] = 0, 0
    self.check(xp, batch, wrapper.run(batch[0], *self.filled(xp, batch), return_lse=True))

  @each_kind
  def test_masks(self, xp):
    buffer = xp.of(np.zeros(200, np.uint8))
    wrapper = ragged_wrapper(xp, custom_mask_buf=buffer)
    for batch in self.batches(xp):
      masks = [rng.random((q, k)) < 0.5 for q, k in zip(batch[3], batch[4])]
      self.plan(xp, wrapper, batch, custom_mask=xp.of(np.concatenate([m.ravel() for m in masks])))
      self.check(xp, batch, wrapper.run(batch[0], *self.filled(xp, batch), return_lse=True), masks)

  @each_kind
  def test_class(self, xp):
    config = AttentionConfig(8, 2, 64, head_dim_vo=32, mask="causal")
    batches = self.batches(xp)
    graph = flashladder.CUDAGraphBatchPrefillWithRaggedKVCache(config, Limits(3, 90, 20), batches[0][0])
    for batch in batches:
      graph.plan(xp.ints(np.cumsum([0, *batch[4]])), None, xp.ints(np.cumsum([0, *batch[3]])))
      self.check(xp, batch, graph.run(batch[0], self.filled(xp, batch), return_lse=True))


class Masks(unittest.TestCase):
  """Masks of a graph's wrapper over pages: as bits in custom_mask_buf, whichever form plan() is given."""

  def plan(self, xp, wrapper, b, **mask):
    wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, **mask)

  @each_kind
  def test_forms(self, xp):
    buffer = xp.of(np.zeros(400, np.uint8))
    batches = [Batch(xp, kv_lens=kv_lens, qo_lens=qo_lens) for kv_lens, qo_lens in (
      ((33, 50, 7, 64), (5, 9, 1, 20)), ((9, 0, 3, 100), (1, 0, 3, 2)), ((1, 1, 1, 1), (0, 0, 0, 0)),
      ((64, 16, 8, 9), (8, 3, 8, 1)))]
    wrapper = paged_wrapper(xp, buffer)
    for b in [*batches, *batches[::-1]]:
      masks = [rng.random((q, k)) < 0.5 for q, k in zip(b.qo_lens, b.kv_lens)]
      flat = np.concatenate([m.ravel() for m in masks])
      bits = np.concatenate([np.packbits(m.ravel(), bitorder="little") for m in masks])
      results = []
      for given in ({"custom_mask": xp.of(flat)}, {"packed_custom_mask": xp.of(bits)},
                    {"custom_mask": xp.of(~flat), "packed_custom_mask": xp.of(bits)}):
        for w in (wrapper, paged_wrapper(xp, xp.of(np.zeros(400, np.uint8)))):
          if w is not wrapper:
            self.plan(xp, w, batches[0], custom_mask=xp.of(np.ones(sum(
              q * k for q, k in zip(batches[0].qo_lens, batches[0].kv_lens)), bool)))
          else:
            buffer[:] = 255
          self.plan(xp, w, b, **given)
          results.append(w.run(b.q, (b.k, b.v), return_lse=True))
          b.check(self, results[-1], oracle.Logits(), masks)
        now = bits_of(buffer)
        self.assertTrue(np.array_equal(now[:len(bits)], bits) and (now[len(bits):] == 255).all())
      self.assertTrue(all(same(results[0], r) for r in results[1:]))

  @each_kind
  def test_the_buffer_is_read(self, xp):
    """What lies in custom_mask_buf when run() comes to it counts, as a replay reads it."""
    b, buffer = Batch(xp, kv_lens=(8, 16, 24, 8), qo_lens=(1, 1, 2, 1)), xp.of(np.zeros(12, np.uint8))
    wrapper = paged_wrapper(xp, buffer)
    self.plan(xp, wrapper, b, custom_mask=xp.of(np.ones(80, bool)))
    masks = [rng.random((q, k)) < 0.5 for q, k in zip(b.qo_lens, b.kv_lens)]
    buffer[:10] = xp.of(np.packbits(np.concatenate([m.ravel() for m in masks]), bitorder="little"))
    b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), oracle.Logits(), masks)

  @each_kind
  def test_refused(self, xp):
    b = Batch(xp, kv_lens=(8, 16, 24, 8), qo_lens=(1, 1, 2, 1))
    mask = xp.of(np.ones(80, bool))
    for buffer, given, sentence in (
        (None, mask, "custom_mask = given: needs custom_mask_buf in a graph"),
        (xp.of(np.zeros(9, np.uint8)), mask, "custom_mask = 10 bytes of bits: must fit custom_mask_buf .9 bytes."),
        (xp.of(np.zeros(10, np.uint8)), mask[:79], "custom_mask size = 79: must be 80")):
      with self.assertRaisesRegex(ValueError, sentence):
        self.plan(xp, paged_wrapper(xp, buffer), b, custom_mask=given)
    with self.assertRaisesRegex(ValueError, "custom_mask_buf dtype = int32: must be uint8"):
      paged_wrapper(xp, xp.ints(np.zeros(11)))
    if xp.is_torch:
      with self.assertRaisesRegex(ValueError, "custom_mask_buf"):
        paged_wrapper(xp, Arrays("numpy").of(np.zeros(11, np.uint8)))


if __name__ == "__main__":
  main()
