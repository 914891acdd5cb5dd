"""Masks that FlashInfer says in other words than custom_mask: several items in one sequence, and draft tokens of a decode.
Each against float64 under the mask that the words mean, which is written out here query by query."""
from support import Arrays, Batch, each_kind, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer

KV_LENS, QO_LENS, PREFIX = (41, 12, 70, 9), (41, 3, 0, 9), (11, 9, 20, 30)  # of the last one only the prefix is there yet
ITEMS = ((5, 9, 16), (3,), (50,), ())  # lengths, without the delimiter in front of each


def positions_of(prefix, items, width):
  """What token_pos_in_items_ptr has of a request: 0 of each delimiter, then 1, 2 .. of its item; and zeros behind."""
  row = [p for n in items for p in range(n + 1)]
  return row + [0] * (width - len(row))


def sees(prefix, items, p, j):
  """Whether the query at p of a sequence sees key j. Item numbers count from the prefix on: a delimiter begins one."""
  if j > p:
    return False
  if p < prefix or j < prefix:
    return True
  begins = [prefix + sum(n + 1 for n in items[:i]) for i in range(len(items))]
  mine = max(b for b in begins if b <= p)
  return j > mine  # the item's tokens up to p, without its delimiter


class Items(unittest.TestCase):
  def setUp(self):
    self.width = 51
    self.token_pos = np.array([positions_of(p, i, self.width) for p, i in zip(PREFIX, ITEMS)])
    self.masks = [np.array([[sees(prefix, items, kv - qo + i, j) for j in range(kv)] for i in range(qo)]).reshape(qo, kv)
                  for kv, qo, prefix, items in zip(KV_LENS, QO_LENS, PREFIX, ITEMS)]

  def said(self, xp, **more):
    return {"prefix_len_ptr": xp.of(np.array(PREFIX, np.uint32)), "token_pos_in_items_len": self.width,
            "token_pos_in_items_ptr": xp.ints(self.token_pos.reshape(-1)), "max_item_len_ptr": xp.ints([16, 3, 50, 0]), **more}

  @each_kind
  def test_pages(self, xp):
    b = Batch(xp, kv_lens=KV_LENS, qo_lens=QO_LENS)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
    for page_size in (16, None):
      wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, page_size, **self.said(xp))
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), custom_masks=self.masks)
    self.assertIn("max_item_len_ptr", wrapper.explain())
    wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True, window_left=6, **self.said(xp))
    b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True), oracle.Logits(window_left=6), self.masks)
    other = xp.of(rng.random(sum(map(np.size, self.masks))) < 0.5)       # the items count, not this mask
    wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, custom_mask=other, **self.said(xp))
    b.check(self, wrapper.run(b.q, (b.k, b.v)), custom_masks=self.masks)
    wrapper.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True)
    b.check(self, wrapper.run(b.q, (b.k, b.v)), oracle.Logits(causal=True))

  @each_kind
  def test_ragged(self, xp):
    k, v, q = xp.normal(sum(KV_LENS), 2, 64), xp.normal(sum(KV_LENS), 2, 64), xp.normal(sum(QO_LENS), 8, 64)
    kv, qo = np.cumsum([0, *KV_LENS]), np.cumsum([0, *QO_LENS])
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(xp.workspace())
    wrapper.plan(xp.ints(qo), xp.ints(kv), 8, 2, 64, uniform_q_len=3, v_indptr=xp.ints(kv), o_indptr=xp.ints(qo),
                 **self.said(xp))
    o, of_o = xp.host(wrapper.run(q, k, v)), oracle.tolerances("float16", (k, v), q)[0]
    scaled = xp.host(wrapper.run(q, k, v, v_scale=4.0, o_scale=2.0))
    self.assertLessEqual(np.abs(scaled - 2 * o).max(), 4 * of_o)
    for r in (0, 1, 3):
      want = oracle.attention(q[qo[r]:qo[r + 1]], k[kv[r]:kv[r + 1]], v[kv[r]:kv[r + 1]],
                              oracle.Logits(custom_mask=self.masks[r]))[0]
      self.assertLessEqual(np.abs(o[qo[r]:qo[r + 1]] - want).max(), of_o)
    self.assertIn("uniform_q_len = 3", wrapper.explain())
    with self.assertRaisesRegex(ValueError, "v_indptr.*must be kv_indptr"):
      wrapper.plan(xp.ints(qo), xp.ints(kv), 8, 2, 64, v_indptr=xp.ints(2 * kv))

  def test_long(self):
    """Rows that are made in several blocks."""
    from flashladder.flashinfer import _items
    xp, (kept, _items._BLOCK) = Arrays("numpy"), (_items._BLOCK, 8 * 41 * 2)
    try:
      b = Batch(xp, kv_lens=KV_LENS, qo_lens=QO_LENS)
      wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
      wrapper.plan(b.qo, *b.lists(), 8, 2, 64, 16, **self.said(xp))
      b.check(self, wrapper.run(b.q, (b.k, b.v)), custom_masks=self.masks)
    finally:
      _items._BLOCK = kept

  def test_refusals(self):
    xp = Arrays("numpy")
    b = Batch(xp, kv_lens=KV_LENS, qo_lens=QO_LENS)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
    for said, words in (({"prefix_len_ptr": None}, "needs prefix_len_ptr"),
                        ({"token_pos_in_items_ptr": None}, "must be given"),
                        ({"token_pos_in_items_len": 50}, "must be batch"), ({"prefix_len_ptr": xp.ints([1, 2])}, "size"),
                        ({"prefix_len_ptr": xp.ints([11, -9, 20, 30])}, r"prefix_len_ptr\[1\] = -9"),
                        ({"prefix_len_ptr": xp.ints([11, 9, 20, 30, 1]), "token_pos_in_items_ptr": xp.ints(range(255))},
                         "must be 4, one for each request"),
                        ({"token_pos_in_items_len": 7, "token_pos_in_items_ptr": xp.ints(range(28))},
                         "must be at least 30.*request 0")):
      with self.assertRaisesRegex(ValueError, words):
        wrapper.plan(b.qo, *b.lists(), 8, 2, 64, 16, **self.said(xp, **said))


class Drafts(unittest.TestCase):
  def words(self, masks, most):
    """The rows of several masks as 32-bit words; bits behind a row's are set, and must not count."""
    rows = np.concatenate([np.pad(m, ((0, 0), (0, 32 * -(-most // 32) - m.shape[1])), constant_values=True) for m in masks])
    return np.packbits(rows, axis=1, bitorder="little").view(np.uint32)

  def custom(self, masks, kv_lens):
    return [np.concatenate([np.ones((len(m), kv - len(m)), bool), m], axis=1) for m, kv in zip(masks, kv_lens)]

  def table(self, b):
    table = np.zeros((len(b.kv_lens), 6), np.int32)
    for r in range(len(b.kv_lens)):
      table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
    return table

  @each_kind
  def test_trees(self, xp):
    for each, kv_lens in ((4, (33, 4, 64)), (40, (41, 90, 40))):
      b = Batch(xp, kv_lens=kv_lens, qo_lens=(each,) * 3, layout="HND")
      masks = [np.eye(each, dtype=bool) | (rng.random((each, each)) < 0.5) for _ in range(3)]
      words = self.words(masks, each).reshape(3, each, -1)
      custom, sinks = self.custom(masks, kv_lens), rng.standard_normal(8).astype(np.float32)
      for mask in (xp.ints(words.view(np.int32)), xp.of(words.view(np.uint8))):
        call = lambda **said: flashinfer.trtllm_batch_decode_with_kv_cache(
          b.q, b.joined, xp.workspace(), xp.of(self.table(b)), xp.ints(kv_lens), 96, 0.2, q_len_per_req=each, mask=mask,
          **said)
        b.check(self, call(return_lse=True), oracle.Logits(sm_scale=0.2), custom)
        b.check(self, call(window_left=5, sinks=xp.of(sinks)), oracle.Logits(sm_scale=0.2, window_left=5, sinks=sinks), custom)
        b.check(self, call(bmm2_scale=2.0), oracle.Logits(sm_scale=0.2), custom, scale=2.0)

  @each_kind
  def test_ragged(self, xp):
    lens = (3, 0, 5)
    b = Batch(xp, kv_lens=(33, 4, 64), qo_lens=lens)
    masks = [rng.random((n, n)) < 0.5 for n in lens]
    o = flashinfer.xqa_batch_decode_with_kv_cache(
      b.q, (b.k, b.v), xp.workspace(), xp.of(self.table(b)), xp.ints(b.kv_lens), 96, 0.2, q_len_per_req=5,
      mask=xp.ints(self.words(masks, 5).view(np.int32)), q_cu_seq_lens=xp.ints(b.qo))
    b.check(self, o, oracle.Logits(sm_scale=0.2), self.custom(masks, b.kv_lens))
    sinks = rng.standard_normal(8).astype(np.float32)
    xqa = lambda **said: flashinfer.xqa(b.q, b.k, b.v, xp.of(self.table(b)), xp.ints(b.kv_lens), q_scale=1.6,
                                        **{"q_seq_len": 5, "q_cu_seq_lens": xp.ints(b.qo), **said})
    words = xp.ints(self.words(masks, 5).view(np.int32))
    b.check(self, xqa(mask=words), oracle.Logits(sm_scale=0.2), self.custom(masks, b.kv_lens))
    b.check(self, xqa(), oracle.Logits(sm_scale=0.2, causal=True))
    out = xp.normal(*b.q.shape)
    self.assertIs(xqa(output=out, sliding_win_size=7, sinks=xp.of(sinks)), out)
    b.check(self, out, oracle.Logits(sm_scale=0.2, causal=True, window_left=6, sinks=sinks))
    for said, words in (({"q_seq_len": 1}, "q_seq_len = 1: must be the most"),
                        ({"q_cu_seq_lens": xp.ints(b.qo[:3])}, "q_cu_seq_lens shape"),
                        ({"q_seq_len": 4}, "must be at most max_q_len .4."),
                        ({"q_seq_len": 4, "mask": words}, "max_q_len = 4: must be at least 5")):
      with self.assertRaisesRegex(ValueError, words):
        xqa(**said)
    with self.assertRaisesRegex(ValueError, "q rank = 4"):
      flashinfer.xqa(b.q.reshape(8, 1, 8, 64), b.k, b.v, xp.of(self.table(b)), xp.ints(b.kv_lens), q_seq_len=5,
                     q_cu_seq_lens=xp.ints(b.qo))

  def test_refusals(self):
    xp = Arrays("numpy")
    b = Batch(xp, kv_lens=(33, 2, 64), qo_lens=(3, 3, 3))
    for mask, words in ((np.zeros((3, 3, 1), np.uint32), r"seq_lens\[1\] = 2"), (np.zeros((3, 3, 1), np.uint16), "mask size")):
      with self.assertRaisesRegex(ValueError, words):
        flashinfer.xqa_batch_decode_with_kv_cache(b.q, (b.k, b.v), xp.workspace(), self.table(b), xp.ints(b.kv_lens), 96, 0.2,
                                                  q_len_per_req=3, mask=mask)


if __name__ == "__main__":
  main()
