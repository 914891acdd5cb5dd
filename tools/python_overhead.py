#!/usr/bin/env python3
"""What a call from Python costs on the host, in microseconds, medians of many.

   python_overhead.py [--torch]   on the CPU device, with numpy's arrays or torch's tensors
   python_overhead.py --cuda [--jsonl FILE]   on a GPU, which computes meanwhile; lines as the benchmarks write them

On the CPU each line is the call from Python, the same call of the C interface with everything prepared, and the difference,
which is what Python adds; the work is as small as it can be (four requests of one page). On a GPU the calls are those of a
model's step, beside FlashInfer's where that is installed, and what a run() is made of. Exit code 1 if a run() takes more than
8 us there, or a plan() with its lengths on the host more than 40; 77 without a GPU."""
import importlib
import importlib.util
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
import numpy as np

from flashladder import AttentionConfig, BatchDecodeWithPagedKVCache
from flashladder._library import lib
import flashladder.flashinfer as flashinfer

MOST_US = {"run()": 8.0, "plan()": 40.0}


def median_us(call, batches=200, each=50, between=lambda: None):
  """between: what is done outside the clock, before each batch of calls."""
  times = []
  for _ in range(batches):
    between()
    start = time.perf_counter()
    for _ in range(each):
      call()
    times.append((time.perf_counter() - start) / each)
  return 1e6 * statistics.median(times)


def on_the_cpu(put, kind):
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
  return 0


class Step:
  """A decode of 32 requests of 2048 tokens, 32 query heads on 8, head_dim 128, pages of 16, f16, and a norm of its rows."""
  heads, page, batch, pages = (32, 8, 128), 16, 32, 32 * 128

  def __init__(self, torch):
    half = lambda *shape: torch.randn(*shape, dtype=torch.float16, device="cuda")
    self.q, self.out = half(self.batch, 32, 128), half(self.batch, 32, 128)
    self.kv = half(self.pages, 2, self.page, 8, 128)
    self.indptr = torch.arange(0, self.pages + 1, self.pages // self.batch, dtype=torch.int32)
    self.indices = torch.randperm(self.pages, device="cuda").to(torch.int32)
    self.last = torch.full((self.batch,), self.page, dtype=torch.int32)
    self.on_device = self.indptr.cuda(), self.last.cuda()
    self.rows, self.weight = half(self.batch, 4096), half(4096)
    self.workspace = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")
    self.dtype = torch.float16

  def calls(self, package):
    """{what: call} of a package with FlashInfer's names."""
    wrapper = package.BatchDecodeWithPagedKVCacheWrapper(self.workspace, "NHD", use_tensor_cores=True)
    plan = lambda indptr, last: wrapper.plan(indptr, self.indices, last, *self.heads, self.page, q_data_type=self.dtype,
                                             kv_data_type=self.dtype)
    plan(self.indptr, self.last)
    return {"run(), out given": lambda: wrapper.run(self.q, self.kv, out=self.out),
            "run()": lambda: wrapper.run(self.q, self.kv),
            "plan(), lengths on the host": lambda: plan(self.indptr, self.last),
            "plan(), lengths on the GPU": lambda: plan(*self.on_device),
            "rmsnorm()": lambda: package.rmsnorm(self.rows, self.weight)}

  def our_names(self):
    decode = BatchDecodeWithPagedKVCache(AttentionConfig(*self.heads, self.page), self.q)
    decode.plan(self.indptr, self.last)
    return {"run(), out given": lambda: decode.run(self.q, self.kv, self.indices, out=self.out),
            "run()": lambda: decode.run(self.q, self.kv, self.indices),
            "plan(), lengths on the host": lambda: decode.plan(self.indptr, self.last),
            "plan(), lengths on the GPU": lambda: decode.plan(*self.on_device)}

  def parts(self, torch):
    """What run() of our names is made of: the call of the C interface with everything prepared, by ctypes and by the function
    that is given tensors; and, to compare, run() without that function, the smallest kernel that torch launches, and two ways
    of making o."""
    decode = BatchDecodeWithPagedKVCache(AttentionConfig(*self.heads, self.page), self.q)
    decode.plan(self.indptr, self.last)
    decode.run(self.q, self.kv, self.indices, out=self.out)
    call, stream = decode._run, torch.cuda.current_stream().cuda_stream
    given = decode._handle, decode.planned_on, self.q, self.kv, None, self.indices, self.out
    longer = BatchDecodeWithPagedKVCache(AttentionConfig(*self.heads, self.page), self.q)
    longer.plan(self.indptr, self.last)
    longer._run.fast = None
    parts = {"run() of the C interface, by ctypes": lambda: lib.fl_attention_run(decode._handle, call.arguments, stream),
             "run() without DLPack, out given": lambda: longer.run(self.q, self.kv, self.indices, out=self.out),
             "a kernel of torch's (out.zero_())": self.out.zero_,
             "torch.empty()": lambda: torch.empty(self.out.shape, dtype=self.dtype, device=self.out.device),
             "torch.empty_like()": lambda: torch.empty_like(self.q)}
    if call.known:
      parts["run() of the C interface, given tensors"] = lambda: call.fast(*given)
    return parts


def write_lines(file, torch, times):
  """times: {(call, whose): us}."""
  machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": sys.version.split()[0],
             "date": time.strftime("%Y-%m-%d")}
  lines = [{"family": "host", "case": case, "backend": whose, "us": round(us, 2)} for (case, whose), us in times.items()]
  file.write_text("".join(json.dumps(line) + "\n" for line in [machine, *lines]), encoding="utf-8")


def on_a_gpu(file=None):
  try:
    import torch
  except ImportError:
    torch = None
  if torch is None or not torch.cuda.is_available():
    print("torch is not installed, or has no GPU")
    return 77
  step = Step(torch)
  sides = {"our names": step.our_names(), "FlashInfer's names": step.calls(flashinfer)}
  if importlib.util.find_spec("flashinfer"):
    sides["FlashInfer"] = step.calls(importlib.import_module("flashinfer"))
  print(f"torch {torch.__version__}, Python {sys.version.split()[0]}, {torch.cuda.get_device_name()}")
  print(f"{'':28}" + "".join(f"{side:>20}" for side in sides))
  over, all_times = [], {}
  for name in sides["FlashInfer's names"]:
    times = {side: median_us(calls[name], 60, 40, torch.cuda.synchronize) for side, calls in sides.items() if name in calls}
    print(f"{name:28}" + "".join(f"{times[side]:20.1f}" if side in times else f"{'-':>20}" for side in sides), flush=True)
    all_times.update({(name, side): us for side, us in times.items()})
    most = next((us for what, us in MOST_US.items() if name.startswith(what) and "GPU" not in name), None)
    over += [f"{side}, {name}: {us:.1f} us, more than {most:.0f}" for side, us in times.items()
             if most is not None and side != "FlashInfer" and us > most]
  for name, call in step.parts(torch).items():
    us = all_times[name, "of our names"] = median_us(call, 60, 40, torch.cuda.synchronize)
    print(f"{name:40}{us:8.1f}", flush=True)
  if file is not None:
    write_lines(file, torch, all_times)
  print("\n".join(over) or "within the limits")
  return int(bool(over))


def main():
  if "--cuda" in sys.argv:
    return on_a_gpu(pathlib.Path(sys.argv[sys.argv.index("--jsonl") + 1]) if "--jsonl" in sys.argv else None)
  if "--torch" in sys.argv:
    import torch
    return on_the_cpu(torch.from_numpy, f"torch {torch.__version__}")
  return on_the_cpu(lambda x: x, f"numpy {np.__version__}")


if __name__ == "__main__":
  sys.exit(main())
