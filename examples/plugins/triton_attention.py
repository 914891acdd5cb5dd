"""A template for a kernel of your own in Triton: copy it, and put your algorithm into attend().
   flashladder verify --plugin ./triton_attention.py      (FLASHLADDER_PYTHON=... names another Python than python3)
As it is, a program computes one query head of one query, 32 keys at a time. It takes f32, f16 and bf16, causal or without a
mask; what attention() does not name it does not have, and those cases are left out. Without torch or triton all are. Without
a GPU Triton's interpreter computes it on the CPU. docs/bring-your-own-kernel.md is the walk."""
import math
import os

import numpy as np
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
if device == "cpu":
  os.environ["TRITON_INTERPRET"] = "1"  # is read when a kernel is defined

import triton
import triton.language as tl

name, idea = "mine", "a program for each query and head, in Triton"


@triton.jit
def attend(q, k, v, first_page, seen_keys, page_ids, o, lse_log2, scale_log2, num_qo_heads, num_kv_heads, page_size, dim_qk,
           dim_vo, KEYS: tl.constexpr, FEATURES_QK: tl.constexpr, FEATURES_VO: tl.constexpr):
  row, head = tl.program_id(0), tl.program_id(1)
  kv_head, out = head // (num_qo_heads // num_kv_heads), row.to(tl.int64) * num_qo_heads + head
  first, seen = tl.load(first_page + row), tl.load(seen_keys + row)
  c, e = tl.arange(0, FEATURES_QK), tl.arange(0, FEATURES_VO)
  query = tl.load(q + out * dim_qk + c, mask=c < dim_qk, other=0).to(tl.float32)
  m, d, sum_v = -float("inf"), 0.0, tl.zeros([FEATURES_VO], tl.float32)
  for begin in range(0, seen, KEYS):
    j = begin + tl.arange(0, KEYS)
    inside = j < seen  # a slot behind the last key may hold NaN: it is not read
    page = tl.load(page_ids + first + j // page_size, mask=inside, other=0).to(tl.int64)
    slot = (page * page_size + j % page_size) * num_kv_heads + kv_head
    key = tl.load(k + slot[:, None] * dim_qk + c, mask=inside[:, None] & (c < dim_qk), other=0).to(tl.float32)
    value = tl.load(v + slot[:, None] * dim_vo + e, mask=inside[:, None] & (e < dim_vo), other=0).to(tl.float32)
    logits = tl.where(inside, tl.sum(key * query, 1) * scale_log2, -float("inf"))
    new_m = tl.maximum(m, tl.max(logits, 0))
    weights, keep = tl.exp2(logits - new_m), tl.exp2(m - new_m)
    d = d * keep + tl.sum(weights, 0)
    sum_v = sum_v * keep + tl.sum(weights[:, None] * value, 0)
    m = new_m
  some = tl.where(d > 0, d, 1)  # a query that sees no key: o = 0, lse = -inf
  tl.store(o + out * dim_vo + e, sum_v / some, mask=e < dim_vo)
  tl.store(lse_log2 + out, tl.where(d > 0, m + tl.log2(some), -float("inf")))


def rows(qo_indptr, kv_lens, causal):
  """(request, number of keys that it sees) of each query. Causal is aligned at the bottom right."""
  qo_lens = np.diff(qo_indptr)
  request = np.repeat(np.arange(len(qo_lens)), qo_lens)
  i = np.arange(qo_indptr[-1]) - qo_indptr[request]
  return request, np.maximum(kv_lens[request] - (qo_lens[request] - 1 - i if causal else 0), 0)


def attention(q, k_cache, v_cache, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, sm_scale, causal,
              dtype):
  """q [nnz_qo, num_qo_heads, head_dim]; caches [num_pages, page_size, num_kv_heads, head_dim], in numpy -> o, lse_log2"""
  def tensor(x):  # bf16, which numpy lacks, comes as its bits in uint16
    t = torch.from_numpy(x)
    return (t.view(torch.bfloat16) if dtype == "bf16" and x.dtype == np.uint16 else t).to(device)

  (nnz_qo, heads, dim_qk), (_, page_size, kv_heads, dim_vo) = q.shape, v_cache.shape
  o, lse_log2 = torch.empty((nnz_qo, heads, dim_vo), device=device), torch.empty((nnz_qo, heads), device=device)
  kv_lens = np.maximum(np.diff(paged_kv_indptr) - 1, 0) * page_size + paged_kv_last_page_len
  request, seen = rows(qo_indptr, kv_lens, causal)
  if nnz_qo > 0:
    attend[nnz_qo, heads](tensor(q), tensor(k_cache), tensor(v_cache), tensor(paged_kv_indptr[request]),
                          tensor(seen.astype(np.int32)), tensor(paged_kv_indices), o, lse_log2, sm_scale * math.log2(math.e),
                          heads, kv_heads, page_size, dim_qk, dim_vo, KEYS=32,
                          FEATURES_QK=triton.next_power_of_2(dim_qk), FEATURES_VO=triton.next_power_of_2(dim_vo))
  return o, lse_log2
