"""A kernel of one's own against float64: a decode in Triton where there is a GPU and Triton, else the same in numpy.

    python verify_kernel.py [--device cuda] [--picture verdict.svg]

It is judged twice: as it is, and with the mistake of a beginner, the last key of every request left out. The picture shows
the second: each case's error as a share of what rounding may change."""
import numpy as np

from common import options, torch
from flashladder import verify
from picture import log_bars, save


def in_numpy(q, k_cache, v_cache, indptr, indices, last_page_len, sm_scale, forget=0):
  """One query of each request over its pages."""
  q, k_cache, v_cache, indptr, indices, last = (
    np.asarray(x.cpu()) if hasattr(x, "cpu") else np.asarray(x) for x in (q, k_cache, v_cache, indptr, indices, last_page_len))
  o, group = np.zeros(q.shape, np.float32), q.shape[1] // k_cache.shape[2]
  for b in range(len(last)):
    ids = indices[indptr[b]:indptr[b + 1]]
    length = (len(ids) - 1) * k_cache.shape[1] + last[b] - forget if len(ids) else 0
    if length <= 0:
      continue
    keys, values = (x[ids].reshape(-1, *x.shape[2:])[:length].astype(np.float32).repeat(group, axis=1)
                    for x in (k_cache, v_cache))
    s = np.einsum("hd,jhd->hj", q[b].astype(np.float32), keys) * sm_scale
    p = np.exp(s - s.max(axis=1, keepdims=True))
    o[b] = np.einsum("hj,jhd->hd", p, values) / p.sum(axis=1, keepdims=True)
  return o.astype(np.float16)


def triton_kernel():
  """The same in Triton, one program a request and head, or None where it cannot run."""
  try:
    import triton_decode
  except ImportError:
    return None
  return triton_decode.decode


def main():
  said = options(__doc__.splitlines()[0], "verify_kernel.svg")
  kernel = triton_kernel() if torch is not None and said.device != "cpu" else None
  kernel = kernel or in_numpy
  right = verify.decode(kernel, said.device)
  wrong = verify.decode(lambda *arguments: kernel(*arguments, forget=1), said.device)
  print(f"The kernel as it is:\n{right}\n\nWith the last key left out:\n{wrong}")
  rows = [(r.case.name, r.error / r.tolerance) for r in wrong.rows if r.tolerance > 0]
  save(said.picture, log_bars("A decode that leaves out the last key: error / tolerance", rows,
                              ["within the tolerance", "wrong"], "what rounding may change"))
  return 0 if right.ok and not wrong.ok else 1


if __name__ == "__main__":
  raise SystemExit(main())
