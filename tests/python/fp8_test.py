"""fp8 keys and values from Python: numpy's uint8 arrays hold the bits, torch's float8 tensors have the dtype; with scales for
all of K and V, and one for each head; against float64 on what the bits stand for."""
from support import KINDS, REAL_TORCH, Arrays, Batch, close, flashladder, main, oracle, rng, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import AttentionConfig


def e4m3(bits):
  """What bytes of float8_e4m3fn stand for."""
  bits = np.asarray(bits, np.uint8).astype(int)
  sign, exponent, fraction = np.where(bits & 0x80, -1.0, 1.0), (bits >> 3) & 15, bits & 7
  return sign * np.where(exponent == 0, fraction / 8 * 2.0 ** -6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))


class Fp8(unittest.TestCase):
  def setUp(self):
    self.b = b = Batch(Arrays("numpy"))
    shape = b.k.shape
    self.bits = [(rng.integers(0x20, 0x40, shape) | rng.choice([0, 0x80], shape)).astype(np.uint8) for _ in range(2)]
    self.values = [e4m3(x) for x in self.bits]
    for x, bits in zip(self.values, self.bits):  # what no request owns is NaN
      unused = np.isnan(b.k.astype(np.float32))
      bits[unused] = 0x7F
      x[unused] = np.nan

  def check(self, result, k_scale=1.0, v_scale=1.0):
    b, (k, v) = self.b, self.values
    scaled = [x * np.reshape(scale, (-1, 1)) if np.ndim(scale) else x * scale for x, scale in ((k, k_scale), (v, v_scale))]
    pages = oracle.Pages(b.indptr, b.indices, b.last, 16)
    o, lse = oracle.batch_attention(b.q, scaled, pages)
    of_o, of_lse = oracle.tolerances("float16", [np.nan_to_num(x) for x in scaled], b.q)
    close(self, result[0], o, of_o)
    close(self, result[1], lse, of_lse, "lse")

  def test_our_names(self):
    b = self.b
    decode = flashladder.BatchDecodeWithPagedKVCache(
      AttentionConfig(8, 2, 64, 16, kv_dtype="float8_e4m3fn", q_dtype="float16"), b.q)
    decode.plan(b.indptr, b.last)
    run = lambda **scales: decode.run(b.q, tuple(self.bits), b.indices, return_lse=True, **scales)
    self.check(run())
    self.check(run(k_scale=0.5, v_scale=3.0), 0.5, 3.0)
    heads = np.array([0.5, 2.0], np.float32)
    self.check(run(k_scale=heads, v_scale=heads[::-1].copy()), heads, heads[::-1])
    heads *= 2                                                        # the same array with other values
    self.check(run(k_scale=heads), heads)
    self.check(run())
    with self.assertRaisesRegex(ValueError, "k_scale"):
      run(k_scale=np.ones(3, np.float32))

  def test_flashinfers_names(self):
    b = self.b
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(np.empty(1 << 20, np.uint8))
    wrapper.plan(b.indptr, b.indices, b.last, 8, 2, 64, 16, q_data_type="float16", kv_data_type="float8_e4m3fn")
    self.check(wrapper.run(b.q, tuple(self.bits), k_scale=0.5, v_scale=3.0, return_lse=True), 0.5, 3.0)
    prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(np.empty(1 << 20, np.uint8))
    prefill.plan(np.arange(5, dtype=np.int32), b.indptr, b.indices, b.last, 8, 2, 64, 16, q_data_type="float16",
                 kv_data_type="float8_e4m3fn")
    self.check(prefill.run(b.q, np.stack(self.bits, axis=1), k_scale=0.5, v_scale=3.0, return_lse=True), 0.5, 3.0)

  def test_torch(self):
    if not REAL_TORCH or not hasattr(torch, "float8_e4m3fn"):
      self.skipTest("needs torch with float8_e4m3fn")
    b = self.b
    for xp in map(Arrays, KINDS[1:]):
      with self.subTest(kind=xp.kind):
        k, v = (xp.of(x).view(torch.float8_e4m3fn) for x in self.bits)
        lists, q = [xp.of(x) for x in (b.indptr, b.indices, b.last)], xp.of(b.q)
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(xp.workspace())
        wrapper.plan(*lists, 8, 2, 64, 16, kv_data_type=torch.float8_e4m3fn)
        self.check(wrapper.run(q, (k, v), k_scale=0.5, v_scale=3.0, return_lse=True), 0.5, 3.0)
        self.check(wrapper.run(q, (k, v), k_scale=torch.tensor([0.5]), return_lse=True), 0.5)
        bits = tuple(map(xp.of, self.bits))
        self.check(wrapper.run(q, bits, return_lse=True))
        prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(xp.workspace())
        prefill.plan(xp.ints(np.arange(5)), *lists, 8, 2, 64, 16, kv_data_type=torch.float8_e4m3fn)
        self.check(prefill.run(q, (k, v), k_scale=0.5, v_scale=3.0, return_lse=True), 0.5, 3.0)


if __name__ == "__main__":
  main()
