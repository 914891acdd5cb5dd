"""The Python snippets of the documents that FlashLadder was made from, and what is said of each.

Each entry: what stands around the snippet (names it takes for granted), what is changed in it and why, and what its names
must be afterwards, in float64. docs/python.md has the same table in words. A snippet that is not here fails the test.
"""
import re
import textwrap
from typing import NamedTuple


def snippets(text):
  """Every Python snippet of a document: fenced, indented under code-block, or behind python -c."""
  found = [(m.start(), m[1]) for m in re.finditer(r"```python\n(.*?)```", text, re.S)]
  found += [(m.start(), m[1]) for m in re.finditer(r'python -c "\n(.*?)\n"', text, re.S)]
  for m in re.finditer(r"\.\. code-block:: python\n\n((?:    .*\n|\s*\n)+)", text):
    found.append((m.start(), textwrap.dedent(m[1])))
  return [code for _, code in sorted(found)]


class Snippet(NamedTuple):
  """document and number: which one. begins: a line of it, so that a changed document is noticed.

  changes   [(as written, as run)]; "cuda" becomes the device there is in all of them
  setup     of the names that it takes for granted
  check     "name of an output": how it is computed in float64, a function of the namespace
  refused   words of the sentence with which it is refused as written (before the changes); None: it runs as written
  """
  document: str
  number: int
  begins: str
  setup: str = ""
  changes: tuple = ()
  check: str = ""
  refused: str = None


SETUP_000 = """
import torch
batch_size, num_qo_heads, num_kv_heads, head_dim = 2, 32, 8, 128
qo_indptr, kv_indptr = ints([0, 5, 9]), ints([0, 40, 60])
kv_indices, kv_last_page_len = ints(list(range(60))), ints([1, 1])
q = torch.randn(9, 32, 128).half()
kv_cache = torch.randn(60, 2, 1, 8, 128).half()
"""
SETUP_001 = """
import torch
qo_indptr, kv_indptr = ints([0, 5, 9]), ints([0, 40, 60])
kv_indices, last_page_len = ints(list(range(60))), ints([1, 1])
indptr, indices = kv_indptr, kv_indices
q = torch.randn(9 if PREFILL else 2, 32, 128).half()
k_cache, v_cache = torch.randn(60, 8, 128).half(), torch.randn(60, 8, 128).half()
"""
SETUP_002 = """
import torch
import flashinfer
num_qo_heads, num_kv_heads, head_dim, page_size = 32, 8, 128, 16
float_workspace_buffer = torch.empty(1 << 20, dtype=torch.uint8)
wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(float_workspace_buffer, kv_layout="NHD")
qo_indptr, paged_kv_indptr = ints([0, 5, 9]), ints([0, 2, 5])
paged_kv_indices, paged_kv_last_page_len = ints([4, 1, 0, 3, 2]), ints([7, 16])
q, paged_kv_cache = torch.randn(9, 32, 128).half(), torch.randn(5, 2, 16, 8, 128).half()
"""
PLAN_002 = """wrapper.plan(qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads, num_kv_heads,
             head_dim, page_size, causal=True)
"""
GRAPH = (("workspace,\n    kv_layout", "torch.empty(1 << 20, dtype=torch.uint8),\n    kv_layout"),
         ("plan(...)", "plan(indptr, indices, last_page_len, 32, 8, 128, 1)"))
SMALL = (("128 * 1024 * 1024", "1024 * 1024"), ("128*1024*1024", "1024*1024"))

TABLE = (
  Snippet("000", 0, "wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, \"NHD\")", SETUP_000, SMALL,
          "output: paged(q, kv_cache, kv_indptr, kv_indices, kv_last_page_len, 1, qo_indptr)"),
  Snippet("000", 1, "wrapper_fa2 = BatchPrefillWithPagedKVCacheWrapper(",
          "import torch\nfrom flashinfer import BatchPrefillWithPagedKVCacheWrapper\n"
          "workspace = torch.empty(1 << 20, dtype=torch.uint8)"),
  Snippet("001", 0, "prefill_wrapper = BatchPrefillWithPagedKVCacheWrapper(", "PREFILL = True" + SETUP_001, SMALL,
          "output: paged(q, (k_cache, v_cache), kv_indptr, kv_indices, last_page_len, 1, qo_indptr, causal=True)"),
  Snippet("001", 1, "decode_wrapper = BatchDecodeWithPagedKVCacheWrapper(",
          "PREFILL = False" + SETUP_001 + "workspace = torch.empty(1 << 20, dtype=torch.uint8)", (),
          "output: paged(q, (k_cache, v_cache), indptr, indices, last_page_len, 1)"),
  Snippet("001", 2, "cuda_graph_wrapper = CUDAGraphBatchDecodeWithPagedKVCacheWrapper(",
          "PREFILL = False" + SETUP_001 + "kv_cache = (k_cache, v_cache)", GRAPH,
          "output: paged(q, kv_cache, indptr, indices, last_page_len, 1)"),
  Snippet("001", 3, "output = rmsnorm(input, weight, eps=1e-6)",
          "import torch\ninput, residual, weight = torch.randn(4, 64).half(), torch.randn(4, 64).half(), "
          "torch.randn(64).half()\ninput0, residual0 = input.clone(), residual.clone()", (),
          "output: norm(input0, weight)\nresidual: double(input0) + double(residual0)\n"
          "input: norm(double(input0) + double(residual0), weight)"),
  Snippet("001", 4, "apply_rope_with_cos_sin_cache_inplace(",
          "import torch\nfrom flashinfer import precompute_freqs_cis\nhead_dim, max_seq_len = 128, 64\n"
          "positions = ints([0, 3, 9, 63])\nquery, key = torch.randn(4, 8, 128).half(), torch.randn(4, 2, 128).half()\n"
          "query0, key0 = query.clone(), key.clone()", (),
          "query: rope(query0, positions)\nkey: rope(key0, positions)"),
  Snippet("001", 5, "wrapper.plan(indptr.cpu(), indices, last_page_len.cpu(),", "", SMALL + (
    ("batch_size, num_pages = 32, 8192", "batch_size, num_pages = 4, 256"),),
          "out: paged(q, (kv_cache[0], kv_cache[1]), indptr, indices, last_page_len, 1)"),
  Snippet("001", 6, "bs, hidden = 4096, 4096", "", (("bs, hidden = 4096, 4096", "bs, hidden = 8, 512"),
                                                   ("range(100)", "range(2)"), ("    rmsnorm(x, w)", "    y = rmsnorm(x, w)")),
          "y: norm(x, w)"),
  Snippet("002", 0, "float_workspace_buffer,  # Pre-allocated workspace buffer", SETUP_002),
  Snippet("002", 1, "qo_indptr,          # Query indices pointer [batch_size + 1]", SETUP_002,
          ((")\n", ")\noutput = wrapper.run(q, paged_kv_cache)\n"),),
          "output: paged(q, paged_kv_cache, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, 16, qo_indptr, "
          "causal=True)"),
  Snippet("002", 2, "output, lse = wrapper.run(q, paged_kv_cache, return_lse=True)", SETUP_002 + PLAN_002, (),
          "output, lse: paged(q, paged_kv_cache, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, 16, qo_indptr, "
          "causal=True)"),
  Snippet("002", 3, "use_tensor_cores=True   # Enable tensor core acceleration", SETUP_002),
  Snippet("002", 4, "batch_indices, positions = get_batch_indices_positions(",
          "q_indptr, seq_lens, total_tokens = ints([0, 2, 3]), ints([5, 1]), 3", (),
          "batch_indices: [0, 0, 1]\npositions: [3, 4, 0]"),
  Snippet("002", 5, "workspace_buffer = torch.empty(", "import torch", SMALL),
  Snippet("002", 6, 'pos_encoding_mode="ALIBI"'),
  Snippet("002", 7, "# Allocate pages", "", SMALL,
          "output: paged(q, kv_cache, kv_indptr, kv_indices, last_page_lens, 16, q_indptr, causal=True, layout='HND')"),
  Snippet("003", 0, "o_rope = flashinfer.single_decode_with_kv_cache(", "", (("kv_len = 2048", "kv_len = 200"),),
          "o: one(q, k, v)\no_rope: one(q, k, v, pos_encoding_mode='ROPE_LLAMA')"),
  Snippet("003", 1, "decode_wrapper.plan(", "", SMALL + (("num_layers = 32", "num_layers = 2"),),
          "o: paged(q, kv_cache, kv_page_indptr, kv_page_indices, kv_last_page_len, 16)"),
  Snippet("003", 2, "output = flashinfer.xqa(", "", (("batch_size = 32", "batch_size = 3"), ("2048", "512"),
                                                    ("v_cache = k_cache.clone()", "v_cache = torch.randn(128, 2, page_size, "
                                                     "num_kv_heads, head_dim).half()")),
          "output: table(q, k_cache[:, 0], v_cache[:, 1], page_table, seq_lens)"),
  Snippet("003", 3, "o_with_lse, lse = flashinfer.single_prefill_with_kv_cache_return_lse(", "",
          (("2048", "160"), ("append_qo_len = 128", "append_qo_len = 32"), ("= 32\nhead_dim", "= 4\nhead_dim"),
           ("num_qo_heads = 32", "num_qo_heads = 8")),
          "o: one(q, k, v)\no_append: one(q_append, k, v, causal=True, pos_encoding_mode='ROPE_LLAMA')\n"
          "o_with_lse, lse: one(q, k, v, causal=True)"),
  Snippet("003", 4, "prefill_wrapper.plan(", "", SMALL,
          "o: paged(q, kv_cache, kv_page_indptr, kv_page_indices, kv_last_page_len, 16, qo_indptr, causal=True)"),
  Snippet("003", 5, "batch_attention = flashinfer.BatchAttention(", "", (("page_size = 16", "page_size = 1"),),
          "o: paged(q, (k, v), kv_indptr, kv_indices, ints([1, 1, 1]), 1, qo_indptr, causal=True)",
          "page_size = 1: must be that of the config (16)"),
  Snippet("003", 6, "mla_wrapper = flashinfer.BatchMLAPagedAttentionWrapper(", "q = kv_cache = page_table = seq_lens = None",
          SMALL, "", "take plan() and run()"),
)
