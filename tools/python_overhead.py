#!/usr/bin/env python3
"""What a call from Python costs on the host, beside what the library itself takes: on the CPU device, where nothing else runs.

   python_overhead.py [--torch]        numpy's arrays, or torch's tensors

Each line: the call from Python, the same call of the C interface with everything prepared, and the difference, which is what
Python adds. Medians of many, in microseconds; the work is as small as it can be (four requests of one page)."""
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
import numpy as np

from flashladder import AttentionConfig, BatchDecodeWithPagedKVCache
from flashladder._library import lib
import flashladder.flashinfer as flashinfer


def median_us(call, batches=200, each=50):
  times = []
  for _ in range(batches):
    start = time.perf_counter()
    for _ in range(each):
      call()
    times.append((time.perf_counter() - start) / each)
  return 1e6 * statistics.median(times)


def main():
  if "--torch" in sys.argv:
    import torch
    put = torch.from_numpy
    kind = f"torch {torch.__version__}"
  else:
    put, kind = (lambda x: x), f"numpy {np.__version__}"
  half = lambda *shape: put(np.random.default_rng(1).standard_normal(shape).astype(np.float16))
  ints = lambda x: put(np.array(x, np.int32))
  q, kv, out = half(4, 8, 64), half(4, 2, 16, 2, 64), half(4, 8, 64)
  pair = (kv[:, 0], kv[:, 1])
  indptr, indices, last = ints([0, 1, 2, 3, 4]), ints([0, 1, 2, 3]), ints([1] * 4)
  decode = BatchDecodeWithPagedKVCache(AttentionConfig(8, 2, 64, 16, threads=1), q)
  decode.plan(indptr, last)
  wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(put(np.empty(1 << 20, np.uint8)))
  plan = lambda: wrapper.plan(indptr, indices, last, 8, 2, 64, 16, q_data_type=q.dtype, kv_data_type=q.dtype)
  plan()
  prepare = lambda: decode.run(q, kv, indices, out=out)  # the call in C writes where the last one from Python did
  bare_run = lambda: lib.fl_attention_run(decode._handle, decode._run.arguments, None)
  bare_plan = lambda: lib.fl_attention_plan(decode._handle, decode._batch_address, None)
  print(f"{kind}, Python {sys.version.split()[0]}\n{'':44} from Python   C alone   added")
  for name, call, bare in (
      ("run(), out given", lambda: decode.run(q, kv, indices, out=out), bare_run),
      ("run()", lambda: decode.run(q, kv, indices), bare_run),
      ("run(), K and V as a pair", lambda: decode.run(q, pair, indices), bare_run),
      ("flashinfer wrapper, run()", lambda: wrapper.run(q, pair), bare_run),
      ("plan(), 4 requests", lambda: decode.plan(indptr, last), bare_plan),
      ("flashinfer wrapper, plan(), 4 requests", plan, bare_plan)):
    all_of_it = median_us(call)
    prepare()
    alone = median_us(bare)
    print(f"{name:44} {all_of_it:11.1f}   {alone:7.1f}   {all_of_it - alone:5.1f}")


if __name__ == "__main__":
  main()
