"""mini-sglang's attention backend drives our wrappers: its calls, in its order, with its arguments.

Page size 1, one float workspace for all wrappers, index arrays on the host, page ids on the device, one graph wrapper for each
captured batch size, and prefill and decode steps in turn. Every output is compared with float64."""
from support import close, main, oracle, torch, unittest
import numpy as np  # behind support, which skips where there is none
from flashladder.flashinfer import (BatchDecodeWithPagedKVCacheWrapper, BatchPrefillWithPagedKVCacheWrapper,
                                    CUDAGraphBatchDecodeWithPagedKVCacheWrapper)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QO_HEADS, KV_HEADS, DIM, LAYERS, MAX_SEQ, ROWS = 8, 2, 64, 2, 64, 6


def ints(x, device="cpu"):
  return torch.tensor(np.asarray(x), dtype=torch.int32).to(device)


class Cache:
  """[pages, page_size 1, heads, dim] a layer, and the table of rows in which a request's slots stand."""

  def __init__(self):
    shape = (ROWS * MAX_SEQ, 1, KV_HEADS, DIM)
    self.k = [torch.randn(*shape).half().to(DEVICE) for _ in range(LAYERS)]
    self.v = [torch.randn(*shape).half().to(DEVICE) for _ in range(LAYERS)]
    slots = np.random.default_rng(3).permutation(ROWS * MAX_SEQ).reshape(ROWS, MAX_SEQ)
    self.table = ints(slots, DEVICE)


class Backend:
  """What the backend keeps and calls; its requests are (row, cached tokens, tokens with the new ones)."""

  def __init__(self):
    self.cache = Cache()
    self.float_workspace_buffer = torch.empty(1 << 20, dtype=torch.uint8, device=DEVICE)
    self.prefill_wrapper = BatchPrefillWithPagedKVCacheWrapper(self.float_workspace_buffer, kv_layout="NHD", backend="fa2")
    self.decode_wrappers = BatchDecodeWithPagedKVCacheWrapper(
      self.float_workspace_buffer, use_tensor_cores=QO_HEADS // KV_HEADS >= 4, kv_layout="NHD", backend="fa2")
    self.int_workspace_buffer = self.prefill_wrapper._int_workspace_buffer
    self.decode_wrappers._int_workspace_buffer = self.int_workspace_buffer
    self.graph_wrappers = {}
    self.capture = {"cu_seqlens_k": ints(np.zeros(9), DEVICE), "indices": ints(np.zeros(8 * MAX_SEQ), DEVICE),
                    "ones": ints(np.ones(8), DEVICE)}

  def prepare_for_capture(self, bs):
    wrapper = self.graph_wrappers[bs] = CUDAGraphBatchDecodeWithPagedKVCacheWrapper(
      self.float_workspace_buffer, kv_layout="NHD", use_tensor_cores=True,
      indptr_buffer=self.capture["cu_seqlens_k"][:bs + 1], indices_buffer=self.capture["indices"],
      last_page_len_buffer=self.capture["ones"][:bs])
    wrapper._backend = "fa2"
    wrapper._int_workspace_buffer = self.int_workspace_buffer

  def plan(self, requests, wrapper):
    ends = [end for _, _, end in requests]
    lengths = [end - cached for _, cached, end in requests]
    cu_seqlens_k = ints(np.cumsum([0, *ends]))
    cu_seqlens_q = cu_seqlens_k if all(cached == 0 for _, cached, _ in requests) else ints(np.cumsum([0, *lengths]))
    shared = {"num_qo_heads": QO_HEADS, "num_kv_heads": KV_HEADS, "page_size": 1, "pos_encoding_mode": "NONE",
              "seq_lens": ints(ends), "q_data_type": torch.float16, "kv_data_type": torch.float16, "non_blocking": True}
    indices = torch.cat([self.cache.table[row, :end] for row, _, end in requests])
    ones = ints(np.ones(len(requests)))
    if isinstance(wrapper, BatchDecodeWithPagedKVCacheWrapper):
      wrapper.plan(indptr=cu_seqlens_k, indices=indices, last_page_len=ones, head_dim=DIM, data_type=torch.float16, **shared)
    else:
      wrapper.plan(qo_indptr=cu_seqlens_q, paged_kv_indptr=cu_seqlens_k, paged_kv_indices=indices,
                   paged_kv_last_page_len=ones, head_dim_qk=DIM, causal=True, **shared)
    return np.cumsum([0, *lengths])

  def forward(self, wrapper, q, layer):
    flat = lambda cache: cache.view(-1, 1, cache.shape[2], cache.shape[3])
    return wrapper.run(q=q, paged_kv_cache=(flat(self.cache.k[layer]), flat(self.cache.v[layer])))


class MiniSglang(unittest.TestCase):
  def step(self, backend, requests, wrapper):
    qo = backend.plan(requests, wrapper)
    table = oracle.f64(backend.cache.table).astype(int)
    for layer in range(LAYERS):
      q = torch.randn(int(qo[-1]), QO_HEADS, DIM).half().to(DEVICE)
      o = oracle.f64(backend.forward(wrapper, q, layer))
      k, v = (oracle.f64(x[layer])[:, 0] for x in (backend.cache.k, backend.cache.v))
      tolerance = oracle.tolerances("float16", (k, v), q)[0]
      for i, (row, _, end) in enumerate(requests):
        rows, slots = slice(qo[i], qo[i + 1]), table[row, :end]
        want = oracle.attention(oracle.f64(q)[rows], k[slots], v[slots], oracle.Logits(causal=True))[0]
        close(self, o[rows], want, tolerance, f"layer {layer}, request {i}")

  def test_steps(self):
    backend = Backend()
    for bs in (1, 2, 4):
      backend.prepare_for_capture(bs)
      backend.plan([(0, 1, 2)] * bs, backend.graph_wrappers[bs])  # as it is captured
    self.step(backend, [(0, 0, 20), (1, 0, 7), (2, 0, 33)], backend.prefill_wrapper)      # prompts
    self.step(backend, [(0, 20, 21), (1, 7, 8), (2, 33, 34)], backend.decode_wrappers)    # a token each
    self.step(backend, [(3, 0, 9), (1, 8, 30)], backend.prefill_wrapper)                  # a prompt beside a chunk
    for bs in (4, 2, 1, 4):                                                               # graphs, of changing sizes
      requests = [(row, 30 + row + bs, 31 + row + bs) for row in range(bs)]
      self.step(backend, requests, backend.graph_wrappers[bs])
    self.step(backend, [(0, 21, 22), (3, 9, 10)], backend.decode_wrappers)

  def test_wrappers_share_the_workspace(self):
    """Two plans at a time, and runs in turn: neither disturbs the other."""
    backend = Backend()
    a, b = [(0, 20, 21), (1, 60, 61)], [(2, 0, 30)]
    backend.plan(a, backend.decode_wrappers)
    q = torch.randn(2, QO_HEADS, DIM).half().to(DEVICE)
    before = oracle.f64(backend.forward(backend.decode_wrappers, q, 0))
    self.step(backend, b, backend.prefill_wrapper)
    self.assertTrue(np.array_equal(before, oracle.f64(backend.forward(backend.decode_wrappers, q, 0))))


if __name__ == "__main__":
  main()
