"""A template for a kernel of your own on torch tensors: copy it, and put your algorithm into attend().
   flashladder verify --plugin ./torch_attention.py       (FLASHLADDER_PYTHON=... names another Python than python3)
As it is, it computes a request at a time with two einsums, on the GPU where there is one. It takes f32, f16 and bf16, causal
or without a mask; what attention() does not name it does not have, and those cases are left out. Without torch all are.
docs/bring-your-own-kernel.md is the walk."""
import math

import torch

name, idea = "mine", "a request at a time in torch"
device = "cuda" if torch.cuda.is_available() else "cpu"


def tensor(x, dtype=""):
  """A numpy array as a tensor; bf16, which numpy lacks, comes as its bits in uint16."""
  t = torch.from_numpy(x)
  return (t.view(torch.bfloat16) if dtype == "bf16" else t).to(device)


def attend(q, k, v, sm_scale, causal):
  """q [qo_len, num_qo_heads, d]; k, v [kv_len, num_kv_heads, d] -> o, lse in base e: this is the kernel."""
  group, qo_len, kv_len = q.shape[1] // k.shape[1], len(q), len(k)
  k, v = (x.float().repeat_interleave(group, dim=1) for x in (k, v))
  logits = torch.einsum("qhd,khd->hqk", q.float(), k) * sm_scale
  if causal:  # aligned at the bottom right
    i, j = torch.arange(qo_len, device=device)[:, None], torch.arange(kv_len, device=device)
    logits = logits.masked_fill(j > i + kv_len - qo_len, -math.inf)
  lse = logits.logsumexp(-1)
  weights = (logits - lse.nan_to_num(neginf=0.0)[..., None]).exp()  # -inf - -inf is NaN: a row that sees nothing has o = 0
  return torch.einsum("hqk,khd->qhd", weights, v), lse.T


def attention(q, k_cache, v_cache, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, sm_scale, causal,
              dtype):
  """q [nnz_qo, num_qo_heads, head_dim]; caches [num_pages, page_size, num_kv_heads, head_dim], in numpy -> o, lse_log2"""
  q, k_cache, v_cache = (tensor(x, dtype) for x in (q, k_cache, v_cache))
  o = torch.empty((*q.shape[:2], v_cache.shape[3]), device=device)
  lse = torch.empty(q.shape[:2], device=device)
  for r in range(len(qo_indptr) - 1):
    pages = tensor(paged_kv_indices[paged_kv_indptr[r]:paged_kv_indptr[r + 1]])
    tokens = max(len(pages) - 1, 0) * k_cache.shape[1] + int(paged_kv_last_page_len[r])
    k, v = (cache[pages].flatten(0, 1)[:tokens] for cache in (k_cache, v_cache))  # a slot without a token may hold NaN
    rows = slice(qo_indptr[r], qo_indptr[r + 1])
    o[rows], lse[rows] = attend(q[rows], k, v, sm_scale, causal)
  return o, lse / math.log(2)
