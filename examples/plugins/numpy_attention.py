"""A template for a kernel of your own in Python, on numpy arrays: copy it, and put your algorithm into attend_row().
   flashladder verify --plugin ./numpy_attention.py
As it is, it computes one row after the other: the logits of all keys that the query sees, their softmax, and the weighted
sum of V. It takes f32 and f16 with any mask, window, soft cap and sinks. What attention() does not name, bf16 and position
encodings, it does not have: those cases are left out. docs/bring-your-own-kernel.md is the walk."""
import numpy as np

name, idea = "mine", "softmax row by row"


def keys_of(r, cache, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len):
  """[kv_len, num_kv_heads, head_dim]: the request's keys or values, in token order. A slot without a token may hold NaN."""
  pages = paged_kv_indices[paged_kv_indptr[r]:paged_kv_indptr[r + 1]]
  tokens = max(len(pages) - 1, 0) * cache.shape[1] + paged_kv_last_page_len[r]
  return cache[pages].reshape(-1, *cache.shape[2:])[:tokens]


def seen_keys(qo_len, kv_len, i, causal, window_left, mask):
  """Which keys query i sees. Causal is aligned at the bottom right; a custom mask stands in its place."""
  j, diagonal = np.arange(kv_len), i + kv_len - qo_len
  seen = mask[i] if mask is not None else j <= diagonal if causal else np.full(kv_len, True)
  return seen & (j >= diagonal - window_left) if window_left >= 0 else seen


def attend_row(q, k, v, sm_scale, logits_soft_cap, sink):
  """q [head_dim] and the keys that it sees: this is the kernel. A row that sees nothing: o = 0, lse = -inf."""
  logits = k @ q * sm_scale
  if logits_soft_cap > 0:
    logits = logits_soft_cap * np.tanh(logits / logits_soft_cap)
  m = max(logits.max(initial=-np.inf), sink)
  if m == -np.inf:
    return np.zeros(v.shape[1]), -np.inf
  weights = np.exp(logits - m)
  total = weights.sum() + np.exp(sink - m)
  return weights @ v / total, (m + np.log(total)) / np.log(2)  # lse is base 2


def attention(q, k_cache, v_cache, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, sm_scale, causal,
              window_left, logits_soft_cap, custom_mask, sinks):
  """q [nnz_qo, num_qo_heads, head_dim_qk]; caches [num_pages, page_size, num_kv_heads, head_dim] -> o, lse_log2"""
  heads, group = q.shape[1], q.shape[1] // k_cache.shape[2]
  o, lse_log2 = np.empty((*q.shape[:2], v_cache.shape[3]), np.float32), np.empty(q.shape[:2], np.float32)
  for r in range(len(qo_indptr) - 1):
    pages = paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len
    k, v = (keys_of(r, cache, *pages).astype(np.float32) for cache in (k_cache, v_cache))
    queries = q[qo_indptr[r]:qo_indptr[r + 1]].astype(np.float32)
    for i, of_heads in enumerate(queries):
      seen = seen_keys(len(queries), len(k), i, causal, window_left, custom_mask and custom_mask[r])
      for h in range(heads):
        row = qo_indptr[r] + i, h
        sink = -np.inf if sinks is None else sinks[h]
        o[row], lse_log2[row] = attend_row(of_heads[h], k[seen, h // group], v[seen, h // group], sm_scale, logits_soft_cap,
                                           sink)
  return o, lse_log2
