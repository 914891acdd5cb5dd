"""fp8 queries and outputs on the GPU that pretend_gpu_test.py pretends: widened and rounded on the device, on the current
stream, without a wait."""
import pretend_gpu_test as gpu
from support import Batch, main, oracle, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer

XP, torch = gpu.XP, gpu.torch
# How far an fp8 number may be from what it is rounded from: of itself, and where numbers are small.
NEAR = {"float8_e4m3fn": (2.0 ** -4, 2.0 ** -10), "float8_e5m2": (2.0 ** -3, 2.0 ** -17)}


class Fp8OnGpu(unittest.TestCase):
  setUp, tearDown = gpu.Gpu.setUp, gpu.Gpu.tearDown

  def queries(self, b, name):
    """fp8 queries of a batch, on the device; the formula reads what they stand for."""
    bits = np.arange(b.q.a.size).reshape(b.q.shape) * 7 % 56
    bits += (0x18 if name == "float8_e4m3fn" else 0x20) + (bits % 3 == 0) * 0x80
    q8 = XP.of(bits.astype(np.uint8)).view(getattr(torch, name))
    b.q = gpu.small_torch.Tensor(oracle.f64(q8.float()))
    return q8

  def near(self, o, b, name, logits=oracle.Logits()):
    want, (of_itself, of_small) = b.want(logits)[0], NEAR[name]
    self.assertTrue(o.is_cuda and o.dtype is getattr(torch, name))
    off = b.tolerances(logits)[0] * (1 + of_itself) + np.abs(want) * of_itself + of_small
    self.assertTrue((np.abs(oracle.f64(o.float()) - want) <= off).all())

  def test_wrapper(self):
    for name in NEAR:
      b, wrapper = Batch(XP), flashinfer.BatchDecodeWithPagedKVCacheWrapper(XP.workspace())
      q8, half = self.queries(b, name), oracle.Logits(sm_scale=0.5 * 64 ** -0.5)
      wrapper.plan(*b.lists(), 8, 2, 64, 16, q_data_type=name, kv_data_type="float16", o_data_type="float16")
      gpu.seen.update(waits=0)
      for _ in range(2):                                                   # the second one past ctypes
        result = wrapper.run(q8, (b.k, b.v), return_lse=True, q_scale=0.5)
        self.assertTrue(result[0].is_cuda)
        b.check(self, result, half)
      wrapper.plan(XP.host_ints(b.indptr), XP.ints(b.indices), XP.host_ints(b.last), 8, 2, 64, 16, kv_data_type="float16")
      for _ in range(2):
        self.near(wrapper.run(q8, (b.k, b.v)), b, name)
      self.assertEqual(gpu.seen["waits"], 0)
      with self.assertRaisesRegex(ValueError, "must lie"):
        wrapper.run(gpu.small_torch.Tensor(q8.a), (b.k, b.v))

  def test_block_table(self):
    for name in NEAR:
      b, table = Batch(XP, layout="HND"), np.zeros((4, 6), np.int32)
      q8 = self.queries(b, name)
      for r in range(4):
        table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
      said = (b.joined, XP.workspace(), XP.of(table), XP.ints(b.kv_lens), 96, 64 ** -0.5)
      b.check(self, flashinfer.trtllm_batch_decode_with_kv_cache(q8, *said, out_dtype="float16"))
      self.near(flashinfer.trtllm_batch_decode_with_kv_cache(q8, *said), b, name)
    self.assertEqual(gpu.seen["waits"], 0)                                 # lengths stay on the device


if __name__ == "__main__":
  main()
