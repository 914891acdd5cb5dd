"""The binding's way of using a GPU, without one: torch tensors that say they lie on cuda:0, and a library that computes on the
CPU what it is asked to compute on the GPU.

What is tested is Python's part: that staging memory is page-locked, lengths on the device are copied together with one wait,
every call has the device and the current stream, arrays on the wrong side are refused, and graphs keep their copies."""
import ctypes

import small_torch
torch = small_torch.install()
import support
import numpy as np  # behind small_torch, which skips where there is none
support.torch, support.REAL_TORCH = torch, False
from support import Arrays, Batch, close, main, oracle, unittest
import flashladder
import flashladder.flashinfer as flashinfer
from flashladder import _library, _structs as s

small_torch.device.has_gpu = True
STREAM, CUDA = 0x5EED, small_torch.device("cuda:0")
seen = {"streams": set(), "waits": 0, "pinned": 0, "launches": 0, "plans": 0}


class GpuTensor(small_torch.Tensor):
  """A tensor that says it lies on the GPU."""
  is_cuda, is_cpu, device = True, False, CUDA


def on_gpu(x):
  return GpuTensor(x.a)


def _same_side(method):
  def made(self, *arguments, **names):
    out = method(self, *arguments, **names)
    return GpuTensor(out.a) if isinstance(self, GpuTensor) and type(out) is small_torch.Tensor else out
  return made


for _name in ("view", "reshape", "contiguous", "clone", "swapaxes", "unflatten", "__getitem__", "half", "int", "to", "float"):
  setattr(GpuTensor, _name, _same_side(getattr(small_torch.Tensor, _name)))
_plain_to = GpuTensor.to
GpuTensor.to = lambda self, *what, **named: (small_torch.Tensor(self.a) if any(
  getattr(x, "type", x) == "cpu" for x in what) else _plain_to(self, *what, **named))
_host_to = small_torch.Tensor.to
small_torch.Tensor.to = lambda self, *what, **named: on_gpu(self) if any(
  getattr(x, "type", None) == "cuda" for x in what) else _host_to(self, *what, **named)
GpuTensor.cpu = lambda self: small_torch.Tensor(self.a.copy())


def _maker(make):
  def maker(*size, device=small_torch.CPU, pin_memory=False, **names):
    seen["pinned"] += bool(pin_memory)
    out = make(*size, **names)
    return on_gpu(out) if getattr(device, "type", str(device)).startswith("cuda") else out
  return maker


torch.empty, torch.zeros = _maker(torch.empty), _maker(torch.zeros)
torch.arange = _maker(torch.arange)
torch.empty_like = lambda x, memory_format=None: type(x)(np.full(x.a.shape, 113, x.a.dtype))
torch.cat = lambda parts, dim=0: type(parts[0])(np.concatenate([p.a for p in parts], dim))


class _Stream:
  cuda_stream = STREAM

  def synchronize(self):
    seen["waits"] += 1


torch.cuda.current_stream = lambda device=None: _Stream()
torch.cuda.is_current_stream_capturing = lambda: False


class PretendGpu:
  """The library, with every FL_GPU turned into FL_CPU on its way in."""

  def __init__(self, real):
    self.real, self.turned = real, []

  def __getattr__(self, name):
    function = getattr(self.real, name)

    def call(*arguments):
      arguments = list(arguments)
      if name.startswith(("fl_attention_plan", "fl_attention_run", "fl_cascade_plan", "fl_cascade_run")):
        if not name.endswith("json"):
          self.stream(arguments[-1])
          arguments[-1] = None
          seen["plans"] += "_plan" in name
        if name == "fl_attention_plan":
          s.Batch.from_address(arguments[1]).page_ids_on = s.CPU
      elif name in ("fl_attention_bytes_for_limits", "fl_attention_create", "fl_cascade_create"):
        s.AttentionConfig.from_address(arguments[1]).device = s.CPU
      elif name == "fl_cascade_bytes_for_batch":
        s.AttentionConfig.from_address(arguments[0]).device = s.CPU
      elif name.startswith("fl_single") or name in OPERATIONS:
        self.on(arguments[-1])
      elif name.startswith("fl_serving"):
        self.on(arguments[2])
      if name.endswith("_create"):
        workspace = s.Workspace.from_address(arguments[-2])
        self.staging(workspace)
      if name == "fl_serving_run":
        self.staging(s.Workspace.from_address(s.ServingCall.from_address(arguments[1]).workspace_buffer))
      status = function(*arguments)
      for on in self.turned:
        on.device = s.GPU
      self.turned.clear()
      if "_bytes" in name and "least" not in name and status == 0:
        ctypes.c_size_t.from_address(arguments[4]).value = 256  # staging bytes, as the GPU's plans want them
      return status
    return call

  def stream(self, stream):
    seen["streams"].add(stream)
    seen["launches"] += 1

  def on(self, address):
    on = s.On.from_address(address)
    assert on.device == s.GPU, "a call on tensors of the GPU is for the CPU"
    self.stream(on.stream)
    on.device = s.CPU
    self.turned.append(on)

  def staging(self, workspace):
    assert workspace.staging and workspace.staging_bytes >= 256 and workspace.staging % 16 == 0
    workspace.staging, workspace.staging_bytes = None, 0


OPERATIONS = {name for name, letters in s.FUNCTIONS.items() if name.startswith((
  "fl_merge", "fl_append", "fl_get", "fl_rmsnorm", "fl_fused", "fl_gemma", "fl_layernorm", "fl_apply"))}
pretend = PretendGpu(_library.lib)
for module in (flashladder.attention, flashladder._run, flashladder.cascade):
  module.lib = pretend
_library._declared = {name: getattr(pretend, name) for name in s.FUNCTIONS}


class GpuArrays(Arrays):
  def __init__(self):
    super().__init__("torch")

  def of(self, x):
    return on_gpu(small_torch.Tensor(np.ascontiguousarray(x)))

  def ints(self, x):
    return self.of(np.asarray(x, np.int32))

  def host_ints(self, x):
    return small_torch.Tensor(np.asarray(x, np.int32))


XP = GpuArrays()


class Gpu(unittest.TestCase):
  def setUp(self):
    seen.update(streams=set(), waits=0, pinned=0, launches=0, plans=0)

  def tearDown(self):
    self.assertTrue(seen["streams"] <= {STREAM}, "a call is not on the current stream")
    self.assertGreater(seen["launches"], 0)

  def test_decode(self):
    b = Batch(XP)
    indptr, indices, last = b.lists()
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(XP.workspace())
    wrapper.plan(indptr, indices, last, 8, 2, 64, 16)
    self.assertEqual(seen["waits"], 1)                                    # lengths on the device: one wait for all of them
    self.assertGreaterEqual(seen["pinned"], 3)                            # their copies, and the staging memory
    o = wrapper.run(b.q, (b.k, b.v), return_lse=True)
    self.assertTrue(o[0].is_cuda and o[1].is_cuda)
    b.check(self, o)
    wrapper.plan(XP.host_ints(b.indptr), indices, XP.host_ints(b.last), 8, 2, 64, 16)
    self.assertEqual(seen["waits"], 1)                                    # lengths on the host: none
    b.check(self, wrapper.run(b.q, b.joined))
    wrapper.plan(XP.host_ints(b.indptr), XP.host_ints(b.indices), XP.host_ints(b.last), 8, 2, 64, 16)
    b.check(self, wrapper.run(b.q, b.joined))                             # page ids are brought to the device
    with self.assertRaisesRegex(ValueError, "must lie"):
      wrapper.run(small_torch.Tensor(b.q.a), b.joined)
    with self.assertRaisesRegex(ValueError, "must lie"):
      wrapper.run(b.q, (small_torch.Tensor(b.k.a), b.v))
    for _ in range(2):
      b.check(self, wrapper.run(b.q, (b.k, b.v)))                         # the second one past ctypes
    with self.assertRaisesRegex(ValueError, "must lie"):
      wrapper.run(b.q, (small_torch.Tensor(b.k.a), b.v))

  def test_another_stream(self):
    """run() on another stream than plan() was on: the batch is planned there, once; in a capture it is not."""
    b, p = Batch(XP), Batch(XP, qo_lens=(5, 0, 9, 1))
    graph = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(XP.workspace(), max_batch_size=4, max_num_pages=40)
    graph.plan(*b.lists(), 8, 2, 64, 16)
    cascade = flashinfer.MultiLevelCascadeAttentionWrapper(1, XP.workspace())
    cascade.plan([XP.ints(p.qo)], *([x] for x in p.lists()), 8, 2, 64, 16)
    for wrapper, batch in ((graph, b), (cascade, p)):
      seen.update(plans=0, streams=set())
      for stream, capturing, plans in ((STREAM, False, 0), (STREAM + 8, True, 0), (STREAM + 8, False, 1),
                                       (STREAM + 8, False, 1)):
        _Stream.cuda_stream, torch.cuda.is_current_stream_capturing = stream, lambda: capturing
        batch.check(self, wrapper.run(batch.q, batch.joined))
        self.assertEqual((seen["plans"], stream in seen["streams"]), (plans, True))
      _Stream.cuda_stream, torch.cuda.is_current_stream_capturing = STREAM, lambda: False
      batch.check(self, wrapper.run(batch.q, batch.joined))
      self.assertEqual((seen["plans"], seen["streams"]), (2, {STREAM, STREAM + 8}))
    seen["streams"] = {STREAM}

  def test_prefill_and_graphs(self):
    b = Batch(XP, qo_lens=(5, 0, 9, 1))
    for graph in (False, True):
      wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(
        XP.workspace(), "NHD", graph, *(XP.ints(np.zeros(n)) for n in (5, 5, 40, 4)), backend="auto")
      wrapper.plan(XP.ints(b.qo), *b.lists(), 8, 2, 64, 16, causal=True)
      b.check(self, wrapper.run(b.q, b.joined, return_lse=True), oracle.Logits(causal=True))
    d = Batch(XP)
    graph = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(XP.workspace(), max_batch_size=9, max_num_pages=40)
    graph.plan(*d.lists(), 8, 2, 64, 16)
    d.check(self, graph.run(d.q, d.joined, return_lse=True))
    attention = flashinfer.BatchAttention(device="cuda")
    attention.plan(XP.ints(b.qo), XP.ints(b.indptr), XP.ints(b.indices), XP.ints(b.kv_lens), 8, 2, 64, 64, 16, causal=True)
    b.check(self, attention.run(b.q, b.joined), oracle.Logits(causal=True))

  def test_block_tables(self):
    b = Batch(XP, layout="HND")
    table = np.zeros((4, 6), np.int32)
    for r in range(4):
      table[r, :b.indptr[r + 1] - b.indptr[r]] = b.indices[b.indptr[r]:b.indptr[r + 1]]
    for workspace in (XP.workspace(), XP.of(np.empty(16, np.uint8))):     # one too small: the thread's own memory
      o = flashinfer.trtllm_batch_decode_with_kv_cache(b.q, b.joined, workspace, XP.of(table), XP.ints(b.kv_lens), 96, 0.2)
      b.check(self, o, oracle.Logits(sm_scale=0.2))
    self.assertEqual(seen["waits"], 0)                                    # a decode's lengths stay on the device
    flashinfer.xqa(b.q, b.k, b.v, XP.of(table), XP.host_ints(b.kv_lens), kv_layout="HND")
    p = Batch(XP, qo_lens=(5, 0, 7, 1), layout="HND")
    table = np.zeros((4, 6), np.int32)
    for r in range(4):
      table[r, :p.indptr[r + 1] - p.indptr[r]] = p.indices[p.indptr[r]:p.indptr[r + 1]]
    o = flashinfer.trtllm_batch_context_with_kv_cache(p.q, p.joined, XP.workspace(), XP.of(table), XP.ints(p.kv_lens), 7, 96,
                                                      0.2, 1.0, 4, XP.ints(p.qo), None)
    p.check(self, o, oracle.Logits(sm_scale=0.2, causal=True))
    o = flashinfer.trtllm_batch_context_with_kv_cache(p.q, p.joined, XP.workspace(), XP.of(table), XP.ints(p.kv_lens), 7, 96,
                                                      0.2, 1.0, 4, XP.ints(p.qo), None, causal=False)
    p.check(self, o, oracle.Logits(sm_scale=0.2))
    cudnn = lambda lens_q, lens, **said: flashinfer.cudnn_batch_prefill_with_kv_cache(
      p.q, p.k, p.v, 0.2, XP.workspace(), max_token_per_sequence=7, max_sequence_kv=96, actual_seq_lens_q=lens_q,
      actual_seq_lens_kv=lens, block_tables=XP.of(table), causal=True, **{"return_lse": False, **said})
    lens_q, lens = XP.ints(np.array(p.qo_lens).reshape(4, 1, 1, 1)), XP.ints(p.kv_lens)
    p.check(self, cudnn(lens_q, lens)[0], oracle.Logits(sm_scale=0.2, causal=True))
    self.assertEqual(seen["waits"], 0)                                    # nor do a prefill's leave it
    p.check(self, cudnn(lens_q, lens, return_lse=True)[0], oracle.Logits(sm_scale=0.2, causal=True))
    self.assertGreater(seen["waits"], 0)                                  # the padded lse asks where requests begin
    with self.assertRaisesRegex(ValueError, "cum_seq_lens_q shape"):
      flashinfer.trtllm_batch_context_with_kv_cache(p.q, p.joined, XP.workspace(), XP.of(table), lens, 7, 96, 0.2, 1.0, 4,
                                                    XP.ints(p.qo[:4]), None)

  def test_operations(self):
    x, w = XP.normal(4, 64), XP.normal(64)
    close(self, flashinfer.rmsnorm(x, w), oracle.rmsnorm(x, w), 0.02)
    a, s_a = XP.normal(4, 2, 32), XP.normal(4, 2, dtype="float32")
    v, lse = flashinfer.merge_state(a, s_a, a, s_a)
    self.assertTrue(v.is_cuda)
    close(self, lse, oracle.f64(s_a) + 1, 1e-5)
    b = Batch(XP, kv_lens=(33, 7))
    indptr, indices, last = b.lists()
    k = XP.normal(2, 2, 64)
    flashinfer.append_paged_kv_cache(k, k, XP.ints([0, 1]), XP.ints([32, 6]), (b.k, b.v), indices, indptr, last)
    pages = oracle.Pages(b.indptr, b.indices, b.last, 16)
    self.assertTrue(np.array_equal(pages.tokens(oracle.f64(b.k), 0)[32], oracle.f64(k)[0]))
    with self.assertRaisesRegex(ValueError, "batch_indices"):
      flashinfer.append_paged_kv_cache(k, k, XP.host_ints([0, 1]), XP.ints([32, 6]), (b.k, b.v), indices, indptr, last)
    with self.assertRaisesRegex(ValueError, "weight = .* must lie"):
      flashinfer.rmsnorm(x, small_torch.Tensor(w.a))
    o = flashinfer.single_prefill_with_kv_cache(XP.normal(3, 4, 32), XP.normal(9, 2, 32), XP.normal(9, 2, 32), causal=True)
    self.assertTrue(o.is_cuda)

  def test_cascade(self):
    b = Batch(XP, qo_lens=(5, 0, 9, 1))
    cascade = flashinfer.MultiLevelCascadeAttentionWrapper(1, XP.workspace())
    cascade.plan([XP.ints(b.qo)], *([x] for x in b.lists()), 8, 2, 64, 16)
    b.check(self, cascade.run(b.q, b.joined))


if __name__ == "__main__":
  main()
