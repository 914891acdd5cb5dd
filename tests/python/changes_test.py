"""Calls that differ from the last one in one thing: what is kept between calls must not be kept too long."""
from support import Batch, each_kind, flashladder, main, oracle, rng, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import AttentionConfig


class Changes(unittest.TestCase):
  @each_kind
  def test_each_argument_in_turn(self, xp):
    b, other = Batch(xp), Batch(xp)
    indptr, indices, last = b.lists()
    decode = flashladder.BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16), b.q)
    decode.plan(indptr, last)
    b.check(self, decode.run(b.q, (b.k, b.v), indices, return_lse=True))
    b.q = xp.normal(4, 8, 64)                                                    # other queries, at another place
    b.check(self, decode.run(b.q, (b.k, b.v), indices))
    wide = xp.normal(4, 8, 128)
    b.q = wide[..., 64:]                                                         # the same shape, other strides
    b.check(self, decode.run(b.q, (b.k, b.v), indices))
    b.k = xp.of(np.nan_to_num(xp.host(b.k) * 0.5).astype(np.float16))            # other keys
    b.check(self, decode.run(b.q, (b.k, b.v), indices))
    joined = b.joined
    b.check(self, decode.run(b.q, joined, indices))                              # one array for both
    b.check(self, decode.run(b.q, (joined[:, 0], joined[:, 1]), indices))        # slices of it
    out = xp.normal(4, 16, 64)[:, ::2]
    b.check(self, decode.run(b.q, joined, indices, out=out))                     # a place with strides
    b.check(self, decode.run(b.q, joined, indices))                              # and without again
    b.indices = b.indices[::-1].copy()                                           # other pages
    moved = [np.full_like(xp.host(x), np.nan) for x in (b.k, b.v)]
    for new, old in zip(b.indices, b.indices[::-1]):
      for to, x in zip(moved, (b.k, b.v)):
        to[new] = xp.host(x)[old]
    b.k, b.v = (xp.of(x.astype(np.float16)) for x in moved)
    b.check(self, decode.run(b.q, (b.k, b.v), xp.ints(b.indices), return_lse=True))

  @each_kind
  def test_lengths_are_copied(self, xp):
    """The caller may write his lengths anew once plan() is back."""
    b = Batch(xp)
    indptr, indices, last = (xp.ints(x.copy()) for x in (b.indptr, b.indices, b.last))
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    wrapper.plan(indptr, indices, last, 8, 2, 64, 16)
    indptr[:], last[:] = 0, 0
    b.check(self, wrapper.run(b.q, (b.k, b.v)))
    b.check(self, wrapper.run(b.q, (b.k, b.v), k_scale=2.0), oracle.Logits(sm_scale=0.25))  # planned again, with these

  @each_kind
  def test_sinks_come_and_go(self, xp):
    b = Batch(xp)
    indptr, indices, last = b.lists()
    decode = flashladder.BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16, sinks=True), b.q)
    decode.plan(indptr, last)
    for _ in range(2):
      sinks = rng.standard_normal(8).astype(np.float32)
      b.check(self, decode.run(b.q, (b.k, b.v), indices, sinks=xp.of(sinks), return_lse=True), oracle.Logits(sinks=sinks))
    with self.assertRaisesRegex(ValueError, "sinks"):
      decode.run(b.q, (b.k, b.v), indices)

  @each_kind
  def test_variants_follow_the_plan(self, xp):
    """What run() and forward() say is planned with the lengths of the last plan(), not of the first."""
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
    for kv_lens in ((33, 0, 7, 64), (64, 7, 0, 33), (1, 2, 200, 4)):
      b = Batch(xp, kv_lens=kv_lens)
      wrapper.plan(*b.lists(), 8, 2, 64, 16)
      b.check(self, wrapper.run(b.q, (b.k, b.v), k_scale=2.0, return_lse=True), oracle.Logits(sm_scale=0.25))
      b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))
      b.check(self, wrapper.forward(b.q, (b.k, b.v), logits_soft_cap=2.0), oracle.Logits(logits_soft_cap=2.0))


if __name__ == "__main__":
  main()
