"""What only a GPU shows: the stream on which things run, what waits, graphs that are captured and replayed, torch.compile with
its own compiler, arrays of cupy and jax. Skipped where torch has no GPU."""
import importlib.util
import os
import sys

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # jax would take most of the GPU's memory

from support import KINDS, Arrays, Batch, close, flashladder, main, oracle, torch, unittest
import numpy as np  # behind support, which skips where there is none
import flashladder.flashinfer as flashinfer
from flashladder import AttentionConfig

if "cuda" not in KINDS:
  print("torch is not installed, or has no GPU")
  sys.exit(77)

CUDA, HOST = Arrays("cuda"), Arrays("torch")
SLEEP = 1 << 30  # clocks: half a second and more


def lists(b):
  """Lengths on the host and page ids on the GPU, as servers have them."""
  return HOST.ints(b.indptr), CUDA.ints(b.indices), HOST.ints(b.last)


class Sleeping:
  """What is enqueued on `stream` within this waits for half a second, and then for what was enqueued before it."""

  def __init__(self, stream):
    self.stream = stream

  def __enter__(self):
    torch.cuda.synchronize()
    self.context = torch.cuda.stream(self.stream)
    self.context.__enter__()
    torch.cuda._sleep(SLEEP)
    return self

  def waited(self):
    """Whether a call since then waited for the stream."""
    return self.stream.query()

  def __exit__(self, *raised):
    self.context.__exit__(*raised)
    torch.cuda.synchronize()


class Streams(unittest.TestCase):
  def setUp(self):
    self.stream = torch.cuda.Stream()

  def test_attention_runs_on_the_current_stream(self):
    b = Batch(CUDA)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
    q, late = torch.zeros_like(b.q), b.q
    wrapper.plan(*lists(b), 8, 2, 64, 16)
    wrapper.run(q, (b.k, b.v))
    with Sleeping(self.stream) as sleeping:
      q.copy_(late)
      wrapper.plan(*lists(b), 8, 2, 64, 16)
      result = wrapper.run(q, (b.k, b.v), return_lse=True)
      self.assertFalse(sleeping.waited(), "plan() with lengths on the host, or run(), waited for the GPU")
    b.check(self, result)

  def test_operations_run_on_the_current_stream(self):
    x, w, positions, source = CUDA.normal(4, 64), CUDA.normal(64), CUDA.ints([3, 1, 4, 1]), CUDA.normal(4, 2, 32)
    zeros, s = torch.zeros_like(source), torch.zeros(4, 2, device="cuda")

    def calls():
      y, late = torch.zeros_like(x), torch.zeros_like(source)
      y.copy_(x)
      late.copy_(source)
      return (flashinfer.rmsnorm(y, w), flashinfer.apply_rope_pos_ids(late, zeros, positions)[0],
              flashinfer.merge_state(late, s, late, s)[0], flashinfer.single_prefill_with_kv_cache(zeros, late, late))
    calls()  # the first call loads kernels, for which the GPU may have to be idle
    with Sleeping(self.stream) as sleeping:
      norm, turned, merged, single = calls()
      self.assertFalse(sleeping.waited(), "an operation waited for the GPU")
    close(self, norm, oracle.rmsnorm(x, w), 2.0 ** -7)
    close(self, turned, oracle.rotated(oracle.f64(source), [3, 1, 4, 1]), 2.0 ** -7)
    close(self, merged, oracle.f64(source), 2.0 ** -9)
    close(self, single, np.broadcast_to(oracle.f64(source).mean(0), (4, 2, 32)), 2.0 ** -8)

  def test_lengths_on_the_device(self):
    """plan() takes what the stream has written when the lengths' turn comes."""
    b = Batch(CUDA)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
    indptr, indices, last = b.lists()
    early = torch.zeros_like(indptr), torch.zeros_like(last)
    with Sleeping(self.stream):
      early[0].copy_(indptr)
      early[1].copy_(last)
      wrapper.plan(early[0], indices, early[1], 8, 2, 64, 16)
      result = wrapper.run(b.q, (b.k, b.v), return_lse=True)
    b.check(self, result)

  def test_run_on_another_stream(self):
    """run() goes to the current stream, where the batch is planned again, and back."""
    first, b = Batch(CUDA), Batch(CUDA)
    buffers = [torch.zeros(n, dtype=torch.int32, device="cuda") for n in (5, 60, 4)]
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace(), "NHD", True, True, *buffers)
    wrapper.plan(*lists(first), 8, 2, 64, 16)
    first.check(self, wrapper.run(first.q, (first.k, first.v), return_lse=True))
    wrapper.plan(*lists(b), 8, 2, 64, 16)
    q, late = torch.zeros_like(b.q), b.q
    with Sleeping(self.stream) as sleeping:
      q.copy_(late)
      result = wrapper.run(q, (b.k, b.v), return_lse=True)
      self.assertFalse(sleeping.waited(), "run() on another stream waited for the GPU")
    b.check(self, result)
    b.check(self, wrapper.run(b.q, (b.k, b.v), return_lse=True))

  def test_past_ctypes(self):
    """What differs from the last call by pointers alone goes to the current stream too, and is planned again there."""
    b = Batch(CUDA)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
    wrapper.plan(*lists(b), 8, 2, 64, 16)
    for _ in range(3):
      b.check(self, wrapper.run(b.q, (b.k, b.v)))
    for stream in (self.stream, torch.cuda.current_stream()):
      q, again, late = torch.zeros_like(b.q), torch.zeros_like(b.q), b.q
      with Sleeping(stream) as sleeping:
        q.copy_(late)
        first = wrapper.run(q, (b.k, b.v))
        again.copy_(late)
        results = first, wrapper.run(again, (b.k, b.v))
        self.assertFalse(sleeping.waited(), "run() waited for the GPU")
      for result in results:
        b.check(self, result)

  def test_default_device(self):
    """torch.set_default_device changes nothing: page-locked memory stays on the host."""
    b = Batch(CUDA)
    torch.set_default_device("cuda")
    try:
      wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
      wrapper.plan(*b.lists(), 8, 2, 64, 16)
      result = wrapper.run(b.q, (b.k, b.v), return_lse=True)
    finally:
      torch.set_default_device(None)
    b.check(self, result)

  def test_what_lies_elsewhere(self):
    b = Batch(CUDA)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
    wrapper.plan(*lists(b), 8, 2, 64, 16)
    for q, k in ((b.q.cpu(), b.k), (b.q, b.k.cpu())):
      with self.assertRaisesRegex(ValueError, "must lie"):
        wrapper.run(q, (k, b.v))
    with self.assertRaisesRegex(ValueError, "weight"):
      flashinfer.rmsnorm(b.q.view(4, 512), torch.ones(512).half())


class Graphs(unittest.TestCase):
  """Captured once, planned again before every replay."""

  def arrays(self, rows):
    cache = lambda: torch.full((60, 16, 2, 64), float("nan"), dtype=torch.float16, device="cuda")
    return torch.zeros(rows, 8, 64, dtype=torch.float16, device="cuda"), cache(), cache()

  def captured(self, call):
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
      out = call()
    return graph, out

  def filled(self, b, q, k, v):
    for static, x in ((q, b.q), (k, b.k), (v, b.v)):
      static[:x.shape[0]].copy_(x)

  def test_decode(self):
    buffers = [torch.zeros(n, dtype=torch.int32, device="cuda") for n in (5, 60, 4)]
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace(), "NHD", True, True, *buffers)
    q, k, v = self.arrays(4)
    first = Batch(CUDA, kv_lens=(1, 1, 1, 1))
    self.filled(first, q, k, v)
    wrapper.plan(*lists(first), 8, 2, 64, 16)
    plain = self.captured(lambda: [wrapper.run(q, (k, v)) for _ in range(2)][1])
    graph, out = self.captured(lambda: wrapper.run(q, (k, v), return_lse=True))
    for kv_lens in ((33, 0, 7, 64), (1, 300, 4, 4), (16, 17, 15, 1), (500, 1, 1, 200)):
      b = Batch(CUDA, kv_lens=kv_lens)
      self.filled(b, q, k, v)
      wrapper.plan(*lists(b), 8, 2, 64, 16)
      graph.replay()
      b.check(self, out)
      plain[0].replay()
      b.check(self, plain[1])

  def test_prefill(self):
    buffers = [torch.zeros(n, dtype=torch.int32, device="cuda") for n in (5, 5, 60, 4)]
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(CUDA.workspace(), "NHD", True, *buffers)
    q, k, v = self.arrays(40)
    plan = lambda b: wrapper.plan(HOST.ints(b.qo), *lists(b), 8, 2, 64, 16, causal=True)
    first = Batch(CUDA, kv_lens=(40, 10, 10, 10), qo_lens=(10, 10, 10, 10))
    self.filled(first, q, k, v)
    plan(first)
    graph, (o, lse) = self.captured(lambda: wrapper.run(q, (k, v), return_lse=True))
    for kv_lens, qo_lens in (((33, 0, 7, 64), (5, 0, 7, 20)), ((300, 4, 4, 4), (31, 1, 4, 4)), ((90, 1, 1, 2), (9, 1, 1, 1))):
      b = Batch(CUDA, kv_lens=kv_lens, qo_lens=qo_lens)
      self.filled(b, q, k, v)
      plan(b)
      graph.replay()
      rows = sum(qo_lens)
      b.check(self, (o[:rows], lse[:rows]), oracle.Logits(causal=True))

  def test_operations(self):
    x, w = torch.zeros(4, 64, dtype=torch.float16, device="cuda"), CUDA.normal(64)
    graph, out = self.captured(lambda: flashinfer.rmsnorm(x, w))
    for _ in range(2):
      x.copy_(CUDA.normal(4, 64))
      graph.replay()
      close(self, out, oracle.rmsnorm(x, w), 2.0 ** -7)


class Compile(unittest.TestCase):
  """torch's own compiler between our calls; tests/python/torch_ops_test.py has the calls one by one."""

  def step(self, wrapper):
    def model(q, k, v, w):
      o = wrapper.run(flashinfer.rmsnorm(q.view(-1, 64), w).view(q.shape) * 2, (k, v))
      return o + q
    return model

  def check(self, compiled, b, w):
    have = compiled(b.q, b.k, b.v, w)
    turned = Batch.__new__(Batch)
    turned.__dict__.update(b.__dict__, q=(flashinfer.rmsnorm(b.q.view(-1, 64), w) * 2).view(b.q.shape))
    o, (of_o, _) = turned.want()[0] + oracle.f64(b.q), turned.tolerances(oracle.Logits())
    close(self, have, o, of_o + 2.0 ** -8)

  def test_inductor(self):
    w, b = CUDA.normal(64), Batch(CUDA)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(CUDA.workspace())
    wrapper.plan(*lists(b), 8, 2, 64, 16)
    compiled = torch.compile(self.step(wrapper), fullgraph=True)
    self.check(compiled, b, w)
    again = Batch(CUDA, kv_lens=(5, 60, 0, 1))
    wrapper.plan(*lists(again), 8, 2, 64, 16)
    self.check(compiled, again, w)

  def test_reduce_overhead(self):
    """torch.compile captures graphs by itself: with a wrapper that is made for graphs, replays run the last plan."""
    w = CUDA.normal(64)
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(CUDA.workspace(), max_batch_size=4, max_num_pages=40)
    compiled = torch.compile(self.step(wrapper), fullgraph=True, mode="reduce-overhead")
    for kv_lens in ((33, 0, 7, 64), (33, 0, 7, 64), (33, 0, 7, 64), (5, 60, 0, 1), (64, 7, 9, 12)):
      b = Batch(CUDA, kv_lens=kv_lens)
      room = torch.full((2, 12, 16, 2, 64), float("nan"), dtype=torch.float16, device="cuda")  # every batch in one shape
      room[0, :b.total], room[1, :b.total] = b.k, b.v
      b.k, b.v = room
      wrapper.plan(*lists(b), 8, 2, 64, 16)
      self.check(compiled, b, w)


class Foreign(unittest.TestCase):
  """Arrays of other libraries on the GPU."""

  def decoded(self, put):
    b = Batch(Arrays("numpy"))
    q, k, v, indices = map(put, (b.q, b.k, b.v, b.indices))
    decode = flashladder.BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16), q)
    decode.plan(b.indptr, b.last)
    o, lse = decode.run(q, (k, v), indices, return_lse=True)
    torch.cuda.synchronize()
    b.check(self, (self.host(o), self.host(lse)))
    return o

  def host(self, x):
    return x.get() if hasattr(x, "get") else x

  @unittest.skipUnless(importlib.util.find_spec("cupy"), "needs cupy")
  def test_cupy(self):
    import cupy
    self.assertIsInstance(self.decoded(cupy.asarray), cupy.ndarray)
    with cupy.cuda.Stream(non_blocking=True):
      self.decoded(cupy.asarray)
    x, w = np.random.default_rng(1).standard_normal((2, 4, 64)).astype(np.float16)
    close(self, flashladder.rmsnorm(cupy.asarray(x), cupy.asarray(w[0])).get(), oracle.rmsnorm(x, w[0]), 2.0 ** -7)

  @unittest.skipUnless(importlib.util.find_spec("jax"), "needs jax")
  def test_jax(self):
    import jax
    if jax.default_backend() != "gpu":
      self.skipTest("jax has no GPU")
    self.decoded(lambda x: jax.block_until_ready(jax.numpy.asarray(x)))


if __name__ == "__main__":
  main()
