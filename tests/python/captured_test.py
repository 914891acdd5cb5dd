"""Wrappers for CUDA graphs: a replay calls nothing in Python. Whichever object's run() was captured, plan() alone must reach
it, and nobody may free it."""
import json

from support import Batch, each_kind, main, oracle, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer


class Captured(unittest.TestCase):
  def wrappers(self, xp):
    ints = lambda n: xp.ints(np.zeros(n))
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
      xp.workspace(), "NHD", True, paged_kv_indptr_buffer=ints(5), paged_kv_indices_buffer=ints(40),
      paged_kv_last_page_len_buffer=ints(4))
    yield decode, lambda b, **more: decode.plan(*b.lists(), 8, 2, 64, 16, **more)
    prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace(), "NHD", True, ints(5), ints(5), ints(40), ints(4))
    yield prefill, lambda b, **more: prefill.plan(xp.ints(b.qo), *b.lists(), 8, 2, 64, 16, **more)

  @each_kind
  def test_every_object_is_planned(self, xp):
    first, then = (Batch(xp, kv_lens=kv_lens, qo_lens=(1, 1, 1, 1)) for kv_lens in ((33, 50, 7, 64), (9, 1, 100, 3)))
    for wrapper, plan in self.wrappers(xp):
      plan(first)
      for scale in np.linspace(0.5, 0.9, 10):
        wrapper.run(first.q, (first.k, first.v), q_scale=float(scale))
      plan(then)
      attentions = [wrapper._attention, *(attention for attention, _ in wrapper._variants.values())]
      self.assertEqual(len(attentions), 11)
      for attention in attentions:
        self.assertEqual(json.loads(attention.plan_json())["kv_lens"], [9, 1, 100, 3])
      then.check(self, wrapper.run(then.q, (then.k, then.v), q_scale=0.5), oracle.Logits(sm_scale=0.5 / 8))

  @each_kind
  def test_an_earlier_config_is_kept(self, xp):
    b = Batch(xp, kv_lens=(33, 50, 7, 64), qo_lens=(1, 1, 1, 1))
    for wrapper, plan in self.wrappers(xp):
      plan(b, sm_scale=0.1)
      one = wrapper._attention
      plan(b, window_left=5)
      other = wrapper._attention
      with self.assertRaises(ValueError):
        plan(b, logits_soft_cap=-1.0)
      b.check(self, wrapper.run(b.q, (b.k, b.v)), oracle.Logits(window_left=5))
      for said, attention in (({"sm_scale": 0.1}, one), ({"window_left": 5}, other), ({"sm_scale": 0.1}, one)):
        plan(b, **said)
        self.assertIs(wrapper._attention, attention)
        b.check(self, wrapper.run(b.q, (b.k, b.v)), oracle.Logits(**said))


if __name__ == "__main__":
  main()
