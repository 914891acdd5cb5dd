"""What DLPack may say of a tensor that ours never say: an offset, no strides, lanes, another device, an error. Whatever the
calls past ctypes can't take is left to Python, and nothing of it reaches the library."""
import ctypes
import types

import small_torch
torch = small_torch.install()
import support
import numpy as np  # behind small_torch, which skips where there is none
support.torch, support.REAL_TORCH = torch, False
from support import Arrays, Batch, close, main, unittest
import small_dlpack
from flashladder import AttentionConfig, BatchDecodeWithPagedKVCache, _fast_run, _structs as s

XP = Arrays("torch")
DESCRIBE = -1


def saying(x, **says):
  """The same tensor, of which DLPack says something else."""
  other = type(x)(x.a)
  other.says = says
  return other


def failing():
  """Functions that refuse every tensor with an error of Python's, as PyList_Append does what is no list."""
  refuse = ctypes.cast(ctypes.pythonapi.PyList_Append, ctypes.c_void_p).value
  return (ctypes.c_void_p * 2)(refuse, refuse)


class Paper(unittest.TestCase):
  def test_run(self):
    b = Batch(XP)
    indptr, indices, last = b.lists()
    decode = BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16), b.q)
    decode.plan(indptr, last)
    run, answers = decode._run.fast, []
    decode._run.fast = lambda *arguments: answers.append(run(*arguments)) or answers[-1]

    def asked(q=b.q, k=b.k, v=b.v, ids=indices, **named):
      answers.clear()
      b.check(self, decode.run(q, (k, v), ids, **named))
      return list(answers)
    for says in ({"byte_offset": 2}, {"strides": None}, {"lanes": 2}, {"bits": 8}, {"code": 4}, {"rank": 2}, {"rank": 6},
                 {"rank": 0}, {"device": 1}, {"device_type": 2}):
      for named in ({"q": saying(b.q, **says)}, {"k": saying(b.k, **says)}, {"v": saying(b.v, **says)},
                    {"ids": saying(indices, **says)}, {"out": saying(XP.normal(4, 8, 64), **says)}):
        with self.subTest(says=says, of=list(named)):
          asked()
          self.assertEqual(asked(), [0])
          self.assertEqual(asked(**named), [DESCRIBE])
          looks_like_none = set(says) - {"lanes", "bits", "code"} and says.get("rank") != 2
          self.assertEqual(asked(**named), [] if looks_like_none else [0])  # what can't be learnt is not asked for again

  def test_an_error_is_taken_back(self):
    x = XP.normal(4, 8, 64)
    structs, arrays = [ctypes.create_string_buffer(256) for _ in range(5)], _fast_run.Arrays(failing(), False)
    arguments, *described = map(ctypes.addressof, structs)
    run, learn, memory = _fast_run.functions(failing(), arguments, described, x.device, False)
    self.assertEqual(learn(x, x, x, x, x), 0)
    self.assertEqual(run(1, None, x, x, x, x, x), DESCRIBE)
    self.assertEqual(arrays.describe(x), 0)

  def test_the_device_is_the_object_s(self):
    x, dlpack = XP.normal(4, 8, 64), _fast_run.dlpack_of(small_torch.Tensor)
    structs = [ctypes.create_string_buffer(256) for _ in range(5)]
    arguments, *described = map(ctypes.addressof, structs)
    for kind, index, says, learnt in (("cpu", None, {}, 1), ("cpu", 1, {}, 0), ("cpu", 1, {"device": 1}, 1),
                                      ("cuda", 0, {"device_type": 2}, 1), ("cuda", 1, {"device_type": 2}, 0),
                                      ("cuda", 1, {"device_type": 2, "device": 1}, 1), ("cuda", 0, {}, 0)):
      device = types.SimpleNamespace(type=kind, index=index)
      _, learn, memory = _fast_run.functions(dlpack, arguments, described, device, False)
      y = saying(x, **says)
      self.assertEqual(learn(y, y, None, y, y), learnt, (kind, index, says))

  def test_arrays(self):
    dlpack = _fast_run.dlpack_of(small_torch.Tensor)
    arrays = _fast_run.Arrays(dlpack, False)
    x, y = XP.normal(4, 64), XP.normal(64, dtype="float32")
    self.assertEqual(arrays.describe(x, y), 1)
    told = arrays.memory.tensors
    self.assertEqual([(t.dtype, t.rank, t.data) for t in told[:2]], [(s.F16, 2, x.data_ptr()), (s.F32, 1, y.data_ptr())])
    self.assertEqual((list(told[0].shape[:2]), list(told[0].strides[:2])), ([4, 64], [64, 1]))
    for dtype, says in ((s.BF16, {"code": 4, "bits": 16}), (s.F8_E4M3, {"code": 10, "bits": 8}),
                        (s.F8_E5M2, {"code": 12, "bits": 8})):
      self.assertEqual(arrays.describe(saying(x, **says)), 1)
      self.assertEqual(told[0].dtype, dtype)
    for says in ({"byte_offset": 2}, {"strides": None}, {"lanes": 2}, {"bits": 8}, {"bits": 64}, {"code": 4, "bits": 32},
                 {"code": 0}, {"code": 11, "bits": 8}, {"rank": 6}, {"rank": 0}, {"device_type": 7}):
      with self.subTest(says=says):
        self.assertEqual(arrays.describe(saying(x, **says)), 0)
        self.assertEqual(arrays.describe(x, saying(x, **says)), 0)
    self.assertEqual(arrays.describe(x, saying(x, device=1)), 0)    # two GPUs in one call
    self.assertEqual((arrays.describe(*6 * [x]), arrays.describe(*7 * [x]), arrays.describe()), (1, 0, 0))

  def test_tables_that_are_not_taken(self):
    """Another major version, a function that is missing, another thing under the name."""
    def kind(**changes):
      made = type("Kind", (), {})
      made.__dlpack_c_exchange_api__ = small_dlpack.api_of(torch, **changes)
      return made
    self.assertIsNotNone(_fast_run.dlpack_of(kind()))
    for changes in ({"major": 2}, {"major": 0}, {"tensor_of": None}, {"current_stream": None}, {"name": b"dlpack"}):
      self.assertIsNone(_fast_run.dlpack_of(kind(**changes)), changes)
    self.assertIsNone(_fast_run.dlpack_of(int))


if __name__ == "__main__":
  main()
