"""Prefill and decode in one call: PODWithPagedKVCacheWrapper and BatchPODWithPagedKVCacheWrapper, against float64."""
from support import Batch, close, each_kind, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer


class Pod(unittest.TestCase):
  def prefill_and(self, xp, **batch):
    d = Batch(xp, **batch)
    q, k, v = xp.normal(9, 8, 64), xp.normal(70, 2, 64), xp.normal(70, 2, 64)
    wrapper = flashinfer.PODWithPagedKVCacheWrapper(xp.workspace(), d.layout)
    return d, wrapper, (q, k, v)

  @each_kind
  def test_both_parts(self, xp):
    for layout in ("NHD", "HND"):
      d, wrapper, p = self.prefill_and(xp, layout=layout)
      wrapper.plan(*d.lists(), 8, 2, 64, 16, q_data_type=d.q.dtype, sm_scale=0.2, window_left=20)
      tolerance = oracle.tolerances("float16", p[1:], p[0])[0]
      for causal in (False, True):
        o_p, o_d = wrapper.run(*p, d.q, (d.k, d.v), causal_p=causal, window_left_p=30)
        close(self, o_p, oracle.attention(*p, oracle.Logits(causal=causal, window_left=30))[0], tolerance)
        d.check(self, o_d, oracle.Logits(sm_scale=0.2, window_left=20))
      mask = rng.random((9, 70)) < 0.5
      o_p, o_d = wrapper.run(*p, d.q, (d.k, d.v), custom_mask_p=xp.of(mask), v_scale=2.0, window_left_d=20, sm_scale_d=0.2)
      close(self, o_p, oracle.attention(*p, oracle.Logits(custom_mask=mask))[0], tolerance)
      d.check(self, o_d, oracle.Logits(sm_scale=0.2, window_left=20), scale=2.0)
      bits = xp.of(np.packbits(mask.reshape(-1), bitorder="little"))
      again, _ = wrapper.run(*p, d.q, (d.k, d.v), packed_custom_mask_p=bits)
      close(self, again, o_p, 0)
      self.assertIn("C4" if not xp.on_gpu else "D6", wrapper.explain())

  @each_kind
  def test_refusals(self, xp):
    d, wrapper, p = self.prefill_and(xp)
    wrapper.plan(*d.lists(), 8, 2, 64, 16, window_left=20)
    for name, value in (("return_lse_p", True), ("return_lse_d", True), ("causal_d", True), ("kv_layout_d", "HND"),
                        ("window_left_d", 4), ("sm_scale_d", 0.2), ("pos_encoding_mode_d", "ALIBI"),
                        ("custom_mask_d", xp.of(np.ones(4, np.uint8)))):
      with self.assertRaisesRegex(ValueError, name):
        wrapper.run(*p, d.q, (d.k, d.v), **{name: value})


class BatchPod(unittest.TestCase):
  """The two batches' pages lie in one pool, or in two."""

  def setUp_for(self, xp, decode_lens=(33, 0, 7, 64)):
    p, d = Batch(xp, kv_lens=(40, 16, 9), qo_lens=(7, 0, 9)), Batch(xp, kv_lens=decode_lens)
    return p, d, flashinfer.BatchPODWithPagedKVCacheWrapper(xp.workspace())

  def one_pool(self, xp, p, d):
    """The same batches over one cache: d's pages behind p's."""
    both = tuple(xp.of(np.concatenate([xp.host(x), xp.host(y)]).astype(np.float16)) for x, y in ((p.k, d.k), (p.v, d.v)))
    (p.k, p.v), (d.k, d.v), d.indices = both, both, d.indices + p.total
    return both

  def plan(self, xp, wrapper, p, d, qo=None, **more):
    qo = np.arange(len(d.kv_lens) + 1) if qo is None else qo
    lists = [xp.ints(x.copy()) for x in (p.qo, p.indptr, p.indices, p.last, qo, d.indptr, d.indices, d.last)]
    wrapper.plan(*lists, 8, 2, 64, 16, **more)
    for x in (lists[:2] + lists[3:6] + lists[7:]):
      x[:] = 0                                            # lengths are copied by plan()
    return wrapper

  @each_kind
  def test_two_pools_and_one(self, xp):
    for shared in (False, True):
      p, d, wrapper = self.setUp_for(xp)
      caches = (self.one_pool(xp, p, d),) * 2 if shared else ((p.k, p.v), (d.k, d.v))
      self.plan(xp, wrapper, p, d, sm_scale=0.2)
      for causal in (True, False, True):
        for return_lse in (True, False):
          o_p, o_d = wrapper.run(p.q, caches[0], d.q, caches[1], causal_p=causal, return_lse=return_lse)
          p.check(self, o_p, oracle.Logits(causal=causal, sm_scale=0.2))
          d.check(self, o_d, oracle.Logits(sm_scale=0.2))
        self.assertEqual(wrapper.explain().startswith("both:"), shared)
      o_p, o_d = wrapper.run(p.q, caches[0], d.q, caches[1], causal_p=True, q_scale=2.0, v_scale=0.5)  # the decode's alone
      p.check(self, o_p, oracle.Logits(causal=True, sm_scale=0.2))
      d.check(self, o_d, oracle.Logits(sm_scale=0.4), scale=0.5)
      masks = [rng.random((m, n)) < 0.5 for m, n in zip(p.qo_lens, p.kv_lens)]
      flat = np.concatenate([m.reshape(-1) for m in masks])
      o_p, o_d = wrapper.run(p.q, caches[0], d.q, caches[1], custom_mask_p=xp.of(flat))
      p.check(self, o_p, oracle.Logits(sm_scale=0.2), masks)
      d.check(self, o_d, oracle.Logits(sm_scale=0.2))
      o_p, _ = wrapper.run(p.q, caches[0], d.q, caches[1], causal_p=True)
      p.check(self, o_p, oracle.Logits(causal=True, sm_scale=0.2))

  @each_kind
  def test_a_decode_of_several_queries(self, xp):
    """They are not masked; so a causal prefill is another plan."""
    p, d, wrapper = self.setUp_for(xp)
    d = Batch(xp, qo_lens=(2, 1, 3, 0))
    cache = self.one_pool(xp, p, d)
    self.plan(xp, wrapper, p, d, d.qo)
    for causal in (True, False):
      o_p, o_d = wrapper.run(p.q, cache, d.q, cache, causal_p=causal)
      p.check(self, o_p, oracle.Logits(causal=causal))
      d.check(self, o_d)
      self.assertEqual(wrapper.explain().startswith("both:"), not causal)

  @each_kind
  def test_refusals(self, xp):
    p, d, wrapper = self.setUp_for(xp)
    with self.assertRaisesRegex(ValueError, "plan"):
      wrapper.run(p.q, (p.k, p.v), d.q, (d.k, d.v))
    cache = self.one_pool(xp, p, d)
    self.plan(xp, wrapper, p, d)
    with self.assertRaisesRegex(ValueError, "q_p"):
      wrapper.run(xp.normal(17, 8, 64), cache, xp.normal(3, 8, 64), cache)
    p.last = p.last[:2]
    with self.assertRaisesRegex(ValueError, "lengths of the prefill"):
      self.plan(xp, wrapper, p, d)


if __name__ == "__main__":
  main()
