"""What the tests of the Python package share. Exit code 77 says why there is nothing to test."""
import os
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, os.environ.get("FLASHLADDER_PYTHON", str(ROOT / "python")))
try:
  import numpy as np
except ImportError:
  print("numpy is not installed, and the tests of the Python package compare with it")
  sys.exit(77)
try:
  import torch
  REAL_TORCH = True
except ImportError:
  import small_torch
  torch, REAL_TORCH = small_torch.install(), False

import flashladder
from flashladder import oracle

rng = np.random.default_rng(11)
KINDS = ("numpy", "torch") + (("cuda",) if torch.cuda.is_available() else ())


class Arrays:
  """Arrays of one kind, made of numpy's: numpy's own, torch's on the CPU, or torch's on the GPU."""

  def __init__(self, kind):
    self.kind, self.is_torch, self.on_gpu = kind, kind != "numpy", kind == "cuda"

  def of(self, x):
    x = np.ascontiguousarray(x)
    if not self.is_torch:
      return x
    return torch.from_numpy(x).to("cuda") if self.on_gpu else torch.from_numpy(x)

  def ints(self, x):
    return self.of(np.asarray(x, np.int32))

  def normal(self, *shape, dtype="float16"):
    x = rng.standard_normal(shape)
    if dtype == "bfloat16":
      return self.of(x.astype(np.float32)).to(torch.bfloat16)
    return self.of(x.astype(dtype))

  def plain_dtypes(self):
    """The dtypes that attention of q, K and V of one dtype takes here: f32 on the CPU alone, bfloat16 of torch alone."""
    bfloat16 = ("bfloat16",) if REAL_TORCH and self.is_torch else ()
    return ("float16",) + (() if self.on_gpu else ("float32",)) + bfloat16

  def workspace(self):
    return self.of(np.empty(1 << 20, np.uint8))

  def host(self, x):
    return oracle.f64(x)


def close(test, have, want, tolerance, what="o"):
  """NaN never passes; infinities must be the same."""
  have, want = oracle.f64(have), oracle.f64(want)
  test.assertEqual(have.shape, want.shape, what)
  finite = np.isfinite(want)
  test.assertTrue(np.array_equal(have[~finite], want[~finite], equal_nan=False), f"{what}: infinities differ")
  if finite.any():
    error = np.abs(have[finite] - want[finite])
    test.assertTrue((error <= tolerance).all(), f"{what} is off by {np.nanmax(error)}, tolerance {tolerance}")


def tolerances(arrays, dtype, q, k, v, logits):
  """(of o, of lse). What RoPE has turned is rounded once more to the dtype on a GPU, q and keys: a logit is then off by two
  roundings of the product of their lengths."""
  of_o, of_lse = oracle.tolerances(dtype, (k, v), q, logits.sm_scale)
  if arrays.on_gpu and logits.pos_encoding_mode == "ROPE_LLAMA":
    q, k, v = (oracle.f64(x) for x in (q, k, v))
    longest = np.linalg.norm(q, axis=-1).max() * np.nanmax(np.linalg.norm(k, axis=-1))
    of_logit = 2 * oracle.UNIT_ROUNDOFF[dtype] * longest * (logits.sm_scale or q.shape[-1] ** -0.5)
    of_o, of_lse = of_o + 2 * of_logit * np.nanmax(np.abs(v)), of_lse + of_logit * oracle.LOG2_E
  return of_o, of_lse


class Batch:
  """A batch over pages: lengths with empty and ragged requests, pages in a random order, unused slots NaN."""

  def __init__(self, arrays, kv_lens=(33, 0, 7, 64), qo_lens=None, page_size=16, heads=(8, 2), dim=64, layout="NHD",
               dtype="float16", dim_vo=None):
    self.arrays, self.page_size, self.heads, self.layout, self.dtype = arrays, page_size, heads, layout, dtype
    self.dim, self.dim_vo = dim, dim_vo or dim
    counts = [-(-n // page_size) for n in kv_lens]
    self.indptr = np.cumsum([0, *counts]).astype(np.int32)
    self.total = int(self.indptr[-1]) + 3
    self.indices = rng.permutation(self.total)[:self.indptr[-1]].astype(np.int32)
    self.last = np.array([n - (c - 1) * page_size if c else 0 for n, c in zip(kv_lens, counts)], np.int32)
    self.qo = None if qo_lens is None else np.cumsum([0, *qo_lens]).astype(np.int32)
    rows = len(kv_lens) if qo_lens is None else sum(qo_lens)
    self.kv_lens, self.qo_lens = kv_lens, qo_lens
    self.q = arrays.normal(rows, heads[0], dim, dtype=dtype)
    self.k, self.v = self._cache(dim), self._cache(self.dim_vo)

  def _cache(self, dim):
    shape = (self.total, self.page_size, self.heads[1], dim)
    cache = np.full(shape, np.nan, np.float32)
    for b, length in enumerate(self.kv_lens):
      for t in range(length):
        page = self.indices[self.indptr[b] + t // self.page_size]
        cache[page, t % self.page_size] = rng.standard_normal((self.heads[1], dim))
    if self.layout == "HND":
      cache = cache.transpose(0, 2, 1, 3)
    return self._typed(cache)

  def _typed(self, x):
    if self.dtype == "bfloat16":
      return self.arrays.of(x.astype(np.float32)).to(torch.bfloat16)
    return self.arrays.of(x.astype(self.dtype))

  @property
  def joined(self):
    """The cache as one array of rank 5."""
    k, v = self.arrays.host(self.k), self.arrays.host(self.v)
    return self._typed(np.stack([k, v], axis=1).astype(np.float32))

  def lists(self):
    return tuple(map(self.arrays.ints, (self.indptr, self.indices, self.last)))

  def want(self, logits=oracle.Logits(), custom_masks=None):
    pages = oracle.Pages(self.indptr, self.indices, self.last, self.page_size, self.layout)
    return oracle.batch_attention(self.q, (self.k, self.v), pages, self.qo, logits, custom_masks)

  def tolerances(self, logits):
    return tolerances(self.arrays, self.dtype, self.q, self.k, self.v, logits)

  def check(self, test, result, logits=oracle.Logits(), custom_masks=None, scale=1.0):
    """result: o, or (o, lse)."""
    o, lse = self.want(logits, custom_masks)
    of_o, of_lse = self.tolerances(logits)
    pair = isinstance(result, tuple)
    close(test, result[0] if pair else result, scale * o, max(scale, 1.0) * of_o)
    if pair:
      close(test, result[1], lse, of_lse, "lse")


def each_kind(function):
  """A test method that runs with numpy's arrays and with torch's, on the GPU too where there is one."""
  def run(self):
    for kind in KINDS:
      with self.subTest(kind=kind):
        function(self, Arrays(kind))
  run.__name__ = function.__name__
  return run


def main():
  unittest.main(verbosity=1)
