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

  @each_kind
  def test_an_earlier_config_of_latents_and_of_cascades(self, xp):
    ints = lambda n: xp.ints(np.zeros(n))
    latent = flashinfer.mla.BatchMLAPagedAttentionWrapper(xp.workspace(), True, kv_indices=ints(8), kv_len_arr=ints(2))
    plan_latent = lambda sm_scale: latent.plan(xp.ints([0, 1, 2]), xp.ints([0, 1, 2]), xp.ints([0, 1]), xp.ints([3, 9]), 16,
                                               512, 64, 16, False, sm_scale, "float16", "float16")
    buffers = [[ints(n) for n in sizes] for sizes in ((2, 3), (2, 3), (4, 4), (1, 2))]
    cascade = flashinfer.MultiLevelCascadeAttentionWrapper(2, xp.workspace(), "NHD", True, *buffers)
    lists = [[xp.ints(x) for x in levels] for levels in (
      ([0, 2], [0, 1, 2]), ([0, 1], [0, 1, 2]), ([0], [1, 2]), ([16], [3, 4]))]
    plan_cascade = lambda sm_scale: cascade.plan(*lists, 8, 2, 64, 16, sm_scale=sm_scale)
    for plan, made in ((plan_latent, lambda: latent._attention), (plan_cascade, lambda: cascade._cascade)):
      objects = []
      for sm_scale in (0.1, 0.2, 0.1, 0.2):
        plan(sm_scale)
        objects.append(made())
      self.assertIs(objects[2], objects[0])
      self.assertIs(objects[3], objects[1])
      self.assertIsNot(objects[1], objects[0])


if __name__ == "__main__":
  main()
