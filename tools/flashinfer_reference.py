"""FlashInfer's calls in float64, with torch: what tools/flashinfer_tests.py compares ours with where FlashInfer's tests
compare one of its calls with another. Slow, and independent of the library."""
import torch

LOG2_E = 1.4426950408889634


def alibi_slopes(heads, device):
  n = 1 << (heads.bit_length() - 1)
  first = [2.0 ** (-8 * (h + 1) / n) for h in range(n)]
  return torch.tensor(first + [2.0 ** (-4 * (2 * h + 1) / n) for h in range(heads - n)], dtype=torch.float64, device=device)


def rotated(x, positions, scale, theta):
  half = x.shape[-1] // 2
  frequencies = theta ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half) / scale
  angles = positions.double()[:, None, None] * frequencies
  a, b = x[..., :half], x[..., half:]
  return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)


def attention(q, k, v, causal=False, mask=None, sm_scale=None, window_left=-1, logits_soft_cap=None,
              pos_encoding_mode="NONE", rope_scale=None, rope_theta=None, sinks=None):
  """One request, NHD: (o, lse to base 2), float64."""
  q, k, v = q.double(), k.double(), v.double()
  qo_len, heads, dim = q.shape
  kv_len, kv_heads, _ = k.shape
  i = torch.arange(qo_len, device=q.device)[:, None] + kv_len - qo_len
  j = torch.arange(kv_len, device=q.device)[None, :]
  if pos_encoding_mode == "ROPE_LLAMA":
    q = rotated(q, i[:, 0], rope_scale or 1.0, rope_theta or 1e4)
    k = rotated(k, j[0], rope_scale or 1.0, rope_theta or 1e4)
  k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
  s = torch.einsum("ihd,jhd->hij", q, k) * (dim ** -0.5 if sm_scale is None else sm_scale)
  if logits_soft_cap:
    s = logits_soft_cap * torch.tanh(s / logits_soft_cap)
  if pos_encoding_mode == "ALIBI":
    s = s + alibi_slopes(heads, q.device)[:, None, None] * (j - (i - kv_len + qo_len))
  visible = torch.ones(qo_len, kv_len, dtype=torch.bool, device=q.device)
  if mask is not None:
    visible = mask.reshape(qo_len, kv_len).bool()
  elif causal:
    visible = j <= i
  if window_left is not None and window_left >= 0:
    visible = visible & (j >= i - window_left)
  s = s.masked_fill(~visible, -torch.inf)
  if sinks is not None:
    s = torch.cat([s, sinks.double()[:, None, None].expand(-1, qo_len, 1)], dim=-1)
    v = torch.cat([v, torch.zeros_like(v[:1])])
  lse = torch.logsumexp(s, dim=-1)
  p = torch.nan_to_num(torch.exp(s - lse[..., None]))
  return torch.einsum("hij,jhd->ihd", p, v), (lse * LOG2_E).T


def _nhd(x, kv_layout):
  return x if kv_layout == "NHD" else x.transpose(0, 1)


def single_prefill_with_kv_cache(q, k, v, scale_q=None, scale_k=None, scale_v=None, o_dtype=None, custom_mask=None,
                                 packed_custom_mask=None, causal=False, kv_layout="NHD", pos_encoding_mode="NONE",
                                 use_fp16_qk_reduction=False, sm_scale=None, window_left=-1, logits_soft_cap=None,
                                 rope_scale=None, rope_theta=None, backend="auto", return_lse=False):
  o, lse = attention(q, _nhd(k, kv_layout), _nhd(v, kv_layout), causal, custom_mask, sm_scale, window_left, logits_soft_cap,
                     pos_encoding_mode, rope_scale, rope_theta)
  o = o.to(o_dtype or q.dtype)
  return (o, lse.float()) if return_lse else o


def single_prefill_with_kv_cache_return_lse(*arguments, **names):
  return single_prefill_with_kv_cache(*arguments, **{**names, "return_lse": True})


def single_decode_with_kv_cache(q, k, v, kv_layout="NHD", pos_encoding_mode="NONE", use_tensor_cores=False, q_scale=None,
                                k_scale=None, v_scale=None, window_left=-1, logits_soft_cap=None, sm_scale=None,
                                rope_scale=None, rope_theta=None, return_lse=False):
  scale = (q_scale or 1.0) * (k_scale or 1.0) * (q.shape[-1] ** -0.5 if sm_scale is None else sm_scale)
  o, lse = attention(q[None], _nhd(k, kv_layout), _nhd(v, kv_layout), False, None, scale, window_left, logits_soft_cap,
                     pos_encoding_mode, rope_scale, rope_theta)
  o, lse = (o[0] * (v_scale or 1.0)).to(q.dtype), lse[0].float()
  return (o, lse) if return_lse else o


class BatchPrefillWithPagedKVCacheWrapper:
  """The paged prefill wrapper, request by request."""

  def __init__(self, float_workspace_buffer, kv_layout="NHD", *arguments, **names):
    self.kv_layout = kv_layout

  def plan(self, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads, num_kv_heads, head_dim_qk,
           page_size, head_dim_vo=None, custom_mask=None, packed_custom_mask=None, causal=False, pos_encoding_mode="NONE",
           use_fp16_qk_reduction=False, sm_scale=None, window_left=-1, logits_soft_cap=None, rope_scale=None, rope_theta=None,
           **names):
    self.lists = [x.tolist() for x in (qo_indptr, paged_kv_indptr, paged_kv_last_page_len)]
    self.indices, self.page_size, self.mask = paged_kv_indices.long(), page_size, custom_mask
    self.logits = dict(causal=causal, pos_encoding_mode=pos_encoding_mode, sm_scale=sm_scale, window_left=window_left,
                       logits_soft_cap=logits_soft_cap, rope_scale=rope_scale, rope_theta=rope_theta)

  begin_forward = plan

  def run(self, q, paged_kv_cache, *args, return_lse=False, sinks=None, q_scale=None, k_scale=None, v_scale=None,
          **names):
    pair = paged_kv_cache if isinstance(paged_kv_cache, tuple) else paged_kv_cache.unbind(1)
    k, v = (x if self.kv_layout == "NHD" else x.transpose(1, 2) for x in pair)
    scaled = (q_scale or 1.0) * (k_scale or 1.0)
    logits = {**self.logits, "sm_scale": scaled * (self.logits["sm_scale"] or q.shape[-1] ** -0.5)}
    qo, kv, last = self.lists
    outs, lses, at = [], [], 0
    for b in range(len(last)):
      ids = self.indices[kv[b]:kv[b + 1]].to(k.device)
      length = (len(ids) - 1) * self.page_size + last[b] if len(ids) else 0
      keys, values = (x[ids].flatten(0, 1)[:length] for x in (k, v))
      rows, mask = q[qo[b]:qo[b + 1]], None
      if self.mask is not None:
        mask = self.mask[at:at + rows.shape[0] * length]
        at += rows.shape[0] * length
      o, lse = attention(rows, keys, values, mask=mask, sinks=sinks, **logits)
      outs.append(o)
      lses.append(lse)
    o, lse = (torch.cat(outs) * (v_scale or 1.0)).to(q.dtype), torch.cat(lses).float()
    return (o, lse) if return_lse else o

  forward = run

  def run_return_lse(self, *arguments, **names):
    return self.run(*arguments, **{**names, "return_lse": True})


class BatchDecodeWithPagedKVCacheWrapper(BatchPrefillWithPagedKVCacheWrapper):
  """The decode wrapper: one query a request."""

  def plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, *arguments, **names):
    if arguments:
      names["pos_encoding_mode"] = arguments[0]
    names = {name: x for name, x in names.items() if not name.endswith("data_type")}
    batch = last_page_len.shape[0]
    super().plan(torch.arange(batch + 1), indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size,
                 **names)

  begin_forward = plan


class BatchPrefillWithRaggedKVCacheWrapper:
  """The ragged prefill wrapper, request by request."""

  def __init__(self, float_workspace_buffer, kv_layout="NHD", *arguments, **names):
    self.kv_layout = kv_layout

  def plan(self, qo_indptr, kv_indptr, num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo=None, custom_mask=None,
           packed_custom_mask=None, causal=False, pos_encoding_mode="NONE", use_fp16_qk_reduction=False, window_left=-1,
           logits_soft_cap=None, sm_scale=None, rope_scale=None, rope_theta=None, **names):
    self.qo, self.kv = qo_indptr.tolist(), kv_indptr.tolist()
    self.logits = dict(causal=causal, pos_encoding_mode=pos_encoding_mode, sm_scale=sm_scale, window_left=window_left,
                       logits_soft_cap=logits_soft_cap, rope_scale=rope_scale, rope_theta=rope_theta)

  begin_forward = plan

  def run(self, q, k, v, *args, return_lse=False, **names):
    """args: sinks and sm_scale, of a wrapper whose jit_args ask for sinks."""
    k, v = _nhd(k, self.kv_layout), _nhd(v, self.kv_layout)
    logits = {**self.logits, **dict(zip(("sinks", "sm_scale"), args))}
    parts = [attention(q[a:b], k[c:d], v[c:d], **logits)
             for a, b, c, d in zip(self.qo, self.qo[1:], self.kv, self.kv[1:])]
    o, lse = torch.cat([p[0] for p in parts]).to(q.dtype), torch.cat([p[1] for p in parts]).float()
    return (o, lse) if return_lse else o

  forward = run

  def run_return_lse(self, *arguments, **names):
    return self.run(*arguments, **{**names, "return_lse": True})
