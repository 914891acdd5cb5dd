"""run() past ctypes: it is taken where nothing but pointers differs, and nothing that differs is missed."""
import threading


from support import KINDS, REAL_TORCH, Arrays, Batch, close, flashladder, main, oracle, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import AttentionConfig, BatchDecodeWithPagedKVCache

XP = Arrays("torch")  # of the class that runs
DESCRIBE = -1


class Counted:
  """The function of an object's run(), and what it answered."""

  def __init__(self, attention):
    self.run, self.answers = attention._run.fast, []
    attention._run.fast = self

  def __call__(self, *arguments):
    self.answers.append(self.run(*arguments))
    return self.answers[-1]


class OfTensors(unittest.TestCase):
  kind = "torch"

  @classmethod
  def setUpClass(cls):
    global XP
    XP = Arrays(cls.kind)
    if flashladder._run._fast_run.dlpack_of(torch.Tensor) is None:
      raise unittest.SkipTest("this torch has no DLPack exchange interface")


class FastRun(OfTensors):
  def setUp(self):
    self.b = Batch(XP)
    self.indptr, self.indices, self.last = self.b.lists()
    self.decode = BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16), self.b.q)
    self.decode.plan(self.indptr, self.last)
    self.counted = Counted(self.decode)
    self.answers = self.counted.answers

  def run_is(self, *answers, q=None, kv=None, ids=None, **named):
    """A call that is right, and what the fast way answered: nothing where it was not asked."""
    self.answers.clear()
    b = self.b
    q = b.q if q is None else q
    o = self.decode.run(q, (b.k, b.v) if kv is None else kv, self.indices if ids is None else ids, **named)
    kept, b.q = b.q, q
    b.check(self, o)
    b.q = kept
    self.assertEqual(self.answers, list(answers))
    return o

  def test_other_pointers(self):
    self.run_is()
    self.run_is(0)
    self.run_is(0, q=XP.normal(4, 8, 64))
    self.run_is(0, ids=XP.ints(self.b.indices.copy()))
    out = XP.normal(4, 8, 64)
    self.assertIs(self.run_is(0, out=out), out)
    for which in (self.b.k, self.b.v):                     # the next layer's cache
      which[:] = which * 1.0
    self.run_is(0, kv=(self.b.k.clone(), self.b.v.clone()))

  def test_other_looks(self):
    """Each is described anew, and the call after it is fast again."""
    self.run_is()
    wide, joined = XP.normal(4, 8, 128), self.b.joined
    slices = joined[:, 0], joined[:, 1]
    for change in ({"q": wide[..., 64:]}, {"kv": joined}, {"kv": slices}, {"out": XP.normal(4, 16, 64)[:, ::2]},
                   {"ids": XP.of(np.concatenate([self.b.indices, self.b.indices]))}):
      self.run_is(DESCRIBE, **change)
      self.run_is(0, **change)
      self.run_is(DESCRIBE)
      self.run_is(0)

  def test_not_asked(self):
    """What the fast way does not know: lse, scales, ids that are converted."""
    self.run_is()
    self.run_is(return_lse=True)
    self.run_is()
    self.run_is(0)
    self.run_is(k_scale=1.0)
    self.run_is()
    self.run_is(0)
    wide = XP.of(self.b.indices.astype(np.int64))
    self.run_is(DESCRIBE, ids=wide)
    wide[:] = wide * 1                                     # and are converted again by the next call
    self.run_is(ids=wide)
    self.run_is()
    self.run_is(0)

  def test_ids_are_read_by_every_call(self):
    """Other ids at another place, and at the same place; those that are converted too."""
    b = self.b
    kv = [XP.of(np.nan_to_num(XP.host(x)).astype(np.float16)) for x in (b.k, b.v)]
    attend = lambda ids: XP.host(self.decode.run(b.q, kv, ids))
    here, there = XP.ints(b.indices.copy()), XP.ints(b.indices[::-1])
    wanted = [attend(here), attend(there)]
    self.assertFalse(np.array_equal(*wanted))
    self.answers.clear()
    for i, ids in enumerate((here, there, here)):
      self.assertTrue(np.array_equal(attend(ids), wanted[i % 2]))
    self.assertEqual(self.answers, [0, 0, 0])
    for ids in (here, XP.of(b.indices.astype(np.int64))):
      self.assertTrue(np.array_equal(attend(ids), wanted[0]))
      ids[:] = XP.of(b.indices[::-1].astype(np.int32 if ids is here else np.int64))
      self.assertTrue(np.array_equal(attend(ids), wanted[1]))

  def test_refusals_are_the_same(self):
    q, kv = self.b.q, (self.b.k, self.b.v)
    calls = [(XP.normal(5, 8, 64), kv, self.indices), (XP.normal(4, 8, 64, dtype="float32"), kv, self.indices),
             (q, (kv[0], XP.normal(*kv[1].shape, dtype="float32")), self.indices), (q, kv, None),
             (XP.host(q), kv, self.indices), (q.view(4, 8, 64, 1), kv, self.indices),
             (q, (XP.host(kv[0]), kv[1]), self.indices), ("q", kv, self.indices), (None, kv, self.indices),
             (q, kv[:1] * 3, self.indices), (q, (None, kv[1]), self.indices),
             (q, kv, self.indices[:2])]
    for call in calls:
      said = []
      for known in (False, True):
        self.decode.run(q, kv, self.indices)
        self.decode._run.known = known
        with self.assertRaises((ValueError, TypeError)) as refused:
          self.decode.run(*call)
        said.append(str(refused.exception))
        self.run_is(*([] if not self.decode._run.known else [0]))
      self.assertEqual(*said)
    self.run_is(0)
    for name, x in (("sinks", XP.normal(8, dtype="float32")), ("custom_mask", XP.of(np.ones(104, np.uint8)))):
      with self.assertRaisesRegex(ValueError, name):
        self.decode.run(q, kv, self.indices, **{name: x})
      self.run_is()
    with self.assertRaisesRegex(ValueError, "share memory"):
      self.decode.run(q, kv, self.indices, out=kv[0].view(-1)[:q.numel()].view(*q.shape))

  def test_another_plan(self):
    self.run_is()
    other = Batch(XP, kv_lens=(5, 40))
    indptr, indices, last = other.lists()
    self.decode.plan(indptr, last)
    self.answers.clear()
    with self.assertRaisesRegex(ValueError, "requests that were planned"):
      self.decode.run(self.b.q, (self.b.k, self.b.v), self.indices)
    other.check(self, self.decode.run(other.q, (other.k, other.v), indices))
    other.check(self, self.decode.run(other.q, (other.k, other.v), indices))
    self.assertEqual(self.answers[-1], 0)
    self.decode.close()
    with self.assertRaises((ValueError, TypeError)):
      self.decode.run(other.q, (other.k, other.v), indices)

  def test_what_was_given_once_is_not_taken_again(self):
    """sinks of the call before, by an object that must be given them."""
    attention = BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16, sinks=True), self.b.q)
    attention.plan(self.indptr, self.last)
    call = (self.b.q, (self.b.k, self.b.v), self.indices)
    for _ in range(2):
      attention.run(*call, sinks=XP.normal(8, dtype="float32"))
      with self.assertRaisesRegex(ValueError, "sinks size = 0"):
        attention.run(*call)

  def test_graphs_and_pages_of_one_token(self):
    b = Batch(XP, page_size=1)
    indptr, indices, last = b.lists()
    graph = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(XP.workspace(), max_batch_size=4, max_num_pages=200)
    rank_3 = tuple(x.view(x.shape[0], *x.shape[2:]) for x in (b.k, b.v))
    graph.plan(indptr, indices, last, 8, 2, 64, 1)
    b.check(self, graph.run(b.q, rank_3))
    counted = Counted(graph._planned(rank_3))
    for _ in range(2):
      b.check(self, graph.run(b.q, rank_3))
    self.assertEqual(counted.answers, [0, 0])

  @unittest.skipUnless(REAL_TORCH, "needs torch's own way of changing a tensor in place")
  def test_tensors_that_change_in_place(self):
    self.run_is()
    q = XP.normal(4, 8, 64)
    self.run_is(0, q=q)
    q.set_(XP.normal(4, 8, 128)[..., 64:])                  # the same object, other strides and other memory
    self.run_is(DESCRIBE, q=q)
    q.data = XP.normal(4, 8, 64)
    self.run_is(DESCRIBE, q=q)
    q.resize_(3, 8, 64)
    with self.assertRaisesRegex(ValueError, "requests that were planned"):
      self.decode.run(q, (self.b.k, self.b.v), self.indices)
    self.run_is()
    parameter = torch.nn.Parameter(XP.normal(4, 8, 64), requires_grad=False)
    self.run_is(q=parameter)                                # of a type of its own
    self.run_is(0, q=parameter)

  def test_the_lock_is_let_go(self):
    """Other threads run meanwhile, each with its object."""
    self.run_is()
    b, others, wrong = self.b, [], []

    def work():
      decode = BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16, threads=1), b.q)
      decode.plan(self.indptr, self.last)
      first = XP.host(decode.run(b.q, (b.k, b.v), self.indices))
      for _ in range(200):
        if not np.array_equal(first, XP.host(decode.run(b.q, (b.k, b.v), self.indices))):
          wrong.append(1)
    for _ in range(3):
      others.append(threading.Thread(target=work))
      others[-1].start()
    for thread in others:
      thread.join()
    self.assertFalse(wrong)
    close(self, self.decode.run(b.q, (b.k, b.v), self.indices), b.want()[0], 0.02)


class Operations(OfTensors):
  """Arrays that C describes, and those that ctypes describes: the same bits, the same refusals."""

  def both(self, call):
    """What each way says."""
    family, said, memory = flashladder._tensors.family_of(XP.normal(1)), [], []
    for family.free_arrays in (memory, None):
      try:
        said.append(call())
      except ValueError as error:
        said.append(f"refused: {error}")
    family.free_arrays, self.memory = memory, memory
    return said

  def same(self, call):
    """call() makes its inputs anew, and gives an array."""
    fast, slow = self.both(lambda: XP.host(call()))
    self.assertNotIsInstance(fast, str, fast)
    self.assertTrue(np.array_equal(fast, slow, equal_nan=True))
    self.assertEqual(len(self.memory), 1)                   # where the next call's arrays are described

  def test_the_same_bits(self):
    x, w, wide = XP.normal(4, 64), XP.normal(64), XP.normal(4, 128)
    self.same(lambda: flashinfer.rmsnorm(x, w))
    self.same(lambda: flashinfer.rmsnorm(wide[:, 64:], w))
    s_a, v_a = XP.normal(4, 2, dtype="float32"), XP.normal(4, 2, 32, dtype="float32")
    self.same(lambda: flashinfer.merge_state(v_a, s_a, v_a * 2.0, s_a)[0])

    def rotated():
      q, k = x.clone().view(4, 1, 64), x.clone().view(4, 1, 64)
      flashladder.apply_rope_pos_ids_inplace(q, k, XP.ints([3, 1, 4, 1]))
      return q
    self.same(rotated)

  def appended(self, cache_of, dtype="float16", **scales):
    k, v = XP.of(np.full((2, 2, 64), 1.5, np.float16)), XP.of(np.full((2, 2, 64), 3.0, np.float16))
    cache = cache_of()
    flashladder.append_paged_kv_cache(k, v, XP.ints([0, 1]), XP.ints([4, 0]), cache, XP.ints([2, 0]), XP.ints([0, 1, 2]),
                                      XP.ints([5, 1]), **scales)
    return XP.of(np.stack([XP.host(x).astype(np.float32) for x in (cache if isinstance(cache, tuple) else (cache,))]))

  def test_appends_to_the_same_caches(self):
    zeros = lambda *shape: XP.of(np.zeros(shape, np.float16))
    for cache_of in (lambda: zeros(3, 2, 16, 2, 64), lambda: (zeros(3, 16, 2, 64), zeros(3, 16, 2, 64)),
                     lambda: (zeros(3, 2, 16, 2, 64)[:, 0], zeros(3, 2, 16, 2, 64)[:, 1])):
      self.same(lambda: self.appended(cache_of))

  @unittest.skipUnless(REAL_TORCH, "needs torch's float8")
  def test_appends_to_fp8(self):
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
      def appended():
        cache = tuple(torch.zeros(3, 16, 2, 64, dtype=dtype, device="cuda" if XP.on_gpu else "cpu") for _ in range(2))
        self.appended(lambda: cache, k_scale=0.5, v_scale=2.0)
        return torch.stack([x.to(torch.float32) for x in cache])
      self.same(appended)
      self.assertEqual(sorted(set(appended().reshape(-1).tolist())), [0.0, 1.5, 3.0])

  def test_the_same_refusals(self):
    x, w = XP.normal(4, 64), XP.normal(64)
    double = XP.of(np.ones((4, 64)))
    for call in (lambda: flashinfer.rmsnorm(double, w), lambda: flashinfer.rmsnorm(x, XP.of(np.ones(64))),
                 lambda: flashinfer.rmsnorm(x, XP.host(w)), lambda: flashinfer.fused_add_rmsnorm(x, x, w),
                 lambda: flashinfer.rmsnorm(x, XP.normal(63)), lambda: self.appended(lambda: (x, None)),
                 lambda: self.appended(lambda: x), lambda: self.appended(lambda: XP.normal(3, 2, 16, 2, 32)),
                 lambda: self.appended(lambda: XP.normal(3, 2, 16, 2, 64), k_scale=0.0)):
      fast, slow = self.both(call)
      self.assertRegex(str(fast), "^refused")
      self.assertEqual(fast, slow)


if "cuda" in KINDS:
  class FastRunOnGpu(FastRun):
    kind = "cuda"

  class OperationsOnGpu(Operations):
    kind = "cuda"


if __name__ == "__main__":
  main()
