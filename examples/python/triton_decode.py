"""A decode in Triton, as short as it can be: one program for each request and query head, a key at a time in blocks."""
import torch
import triton
import triton.language as tl


@triton.jit
def _kernel(q, k, v, indptr, indices, last, o, sm_scale, forget, group, row, head, page, entry, kv_head,
            PAGE: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr):
  b, h = tl.program_id(0), tl.program_id(1)
  first, end = tl.load(indptr + b), tl.load(indptr + b + 1)
  length = tl.where(end > first, (end - first - 1) * PAGE + tl.load(last + b) - forget, 0)
  d = tl.arange(0, DIM)
  query = tl.load(q + b * row + h * head + d).to(tl.float32) * sm_scale
  m, total, sums = -float("inf"), 0.0, tl.zeros([DIM], tl.float32)
  for start in range(0, length, BLOCK):
    t = start + tl.arange(0, BLOCK)
    here = t < length
    at = tl.load(indices + first + t // PAGE, here, 0).to(tl.int64) * page + (t % PAGE) * entry + (h // group) * kv_head
    keys = tl.load(k + at[:, None] + d[None, :], here[:, None], 0.0).to(tl.float32)
    s = tl.where(here, tl.sum(keys * query[None, :], 1), -float("inf"))
    most = tl.maximum(m, tl.max(s, 0))
    p, rest = tl.exp(s - most), tl.exp(m - most)
    values = tl.load(v + at[:, None] + d[None, :], here[:, None], 0.0).to(tl.float32)
    sums = sums * rest + tl.sum(p[:, None] * values, 0)
    total, m = total * rest + tl.sum(p, 0), most
  result = tl.where(total > 0, sums / total, 0.0)
  tl.store(o + b * row + h * head + d, result.to(tl.float16))


def decode(q, k_cache, v_cache, indptr, indices, last_page_len, sm_scale, forget=0):
  """q [batch, num_qo_heads, head_dim]; caches NHD, contiguous, of one shape."""
  q, o = q.contiguous(), torch.zeros_like(q)
  page_size, kv_heads, dim = k_cache.shape[1:]
  _kernel[(q.shape[0], q.shape[1])](q, k_cache, v_cache, indptr, indices, last_page_len, o, sm_scale, forget,
                                    q.shape[1] // kv_heads, q.stride(0), q.stride(1), *k_cache.stride()[:3],
                                    PAGE=page_size, BLOCK=64, DIM=dim)
  return o
