#!/usr/bin/env python3
"""FlashInfer's own tests on our names.

   flashinfer_tests.py PATH [--minutes 8] [--seed 0] [--results FILE] [--again FILE] [--files NAME ...] [--mutant NAME]
                       [--cpu] [--counts FILE]

PATH is a checkout of FlashInfer's repository (its folder tests is used), which is only read. Needs torch and pytest. A sample
of the tests is drawn by --seed, the same share of each file, and run until the minutes are over; with --results, what was run
earlier is not run again, and with --again, only what failed or was refused in those results is. Printed: passed, failed and
refused by file, and why tests were skipped or refused. Some tests take tens of gigabytes, so that several of these programs on
one GPU run out of memory: such a test counts under "memory", is not written to the results, and runs again the next time.
The exit code is 1 if a test failed, or if none passed and none failed.

Many of these tests compare one of FlashInfer's calls with another, which would compare ours with ourselves. REFERENCES says
which call is the reference in which file: there it is the formula in float64 (tools/flashinfer_reference.py). --mutant makes
ours wrong in one way, and then tests must fail. --cpu puts what is meant for cuda:0 on the CPU. --counts writes JSON lines."""
import argparse
import collections
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
SINGLE = ("single_decode_with_kv_cache", "single_prefill_with_kv_cache", "single_prefill_with_kv_cache_return_lse")
WRAPPERS = ("BatchPrefillWithPagedKVCacheWrapper", "BatchDecodeWithPagedKVCacheWrapper",
            "BatchPrefillWithRaggedKVCacheWrapper")
always = lambda names: True
without_tensor_cores = lambda names: not names.get("use_tensor_cores")
as_fa2 = lambda names: names.get("backend") == "fa2"
with_code = lambda names: names.get("jit_args") is not None
REFERENCES = {  # file: of tests that begin so, calls that are references, in which of these calls
  "test_batch_decode_kernels": [("", SINGLE, always)], "test_batch_prefill_kernels": [("", SINGLE, always)],
  "test_batch_attention": [("", WRAPPERS, always)], "test_shared_prefix_kernels": [("", WRAPPERS, always)],
  "test_sliding_window": [("test_batch", SINGLE, always), ("test_single_decode_prefill", SINGLE[:1], always)],
  "test_tensor_cores_decode": [("", SINGLE[:1] + WRAPPERS[1:2], without_tensor_cores)],
  "test_hopper": [("", SINGLE + WRAPPERS, as_fa2)],
  "test_attention_sink": [("", WRAPPERS[2:], with_code)],
  "test_pod_kernels": [("", SINGLE + WRAPPERS, always)],
  "test_xqa_batch_decode": [("", WRAPPERS, always)], "test_cudnn_decode": [("", WRAPPERS, always)],
  "test_single_prefill": [("test_sinqle_prefill_with_paged", SINGLE, always)],
  **{name: [] for name in (
    "test_batch_invariant_fa2", "test_decode_prefill_lse", "test_alibi", "test_logits_cap",
    "test_non_contiguous_decode", "test_non_contiguous_prefill", "test_batch_prefill", "test_page", "test_rope", "test_norm",
    "test_quantization", "test_deepseek_mla", "test_mla_page", "test_xqa")}}
OTHERS = ("fp8", "float8", "nvfp4", "latent")  # words of an error for what the library does not compute; of no assertion
TAKEN = {"test_batch_decode_rejects_unequal_kv_strides_nvfp4_contract": "wants strides of K and V refused that ours takes"}
ABSENT = re.compile(r"needs flashinfer\.[\w.]+, which is not here")
KEPT_BYTES = 4 << 30  # that torch may keep between two tests
NO_GPU = ("CUDA", "NVIDIA driver", "Torch not compiled with CUDA")
MUTANTS = {"sm_scale": "logits are half as large", "causal": "nothing is causal", "window": "no window", "norm": "eps is 1"}


@contextlib.contextmanager
def stand_in_for_processes():
  """`import flashinfer` means ours in processes that a test starts, too: without references and mutants."""
  with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "flashinfer.py").write_text(
      f"import sys\nsys.path[:0] = {[str(ROOT / 'python'), str(ROOT / 'tools')]!r}\n"
      "import torch\nfrom flashinfer_absent import stand_in\nstand_in(torch)\n", encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before]))
    try:
      yield
    finally:
      os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


class WithReferences:
  """A module of ours in which some calls are float64's."""

  def __init__(self, module, names, when):
    import flashinfer_reference
    self.module, self.when = module, when
    self.references = {name: getattr(flashinfer_reference, name) for name in names}

  def __getattr__(self, name):
    found = getattr(self.module, name)
    if name in self.references:
      reference, when = self.references[name], self.when
      return lambda *arguments, **names: (reference if when(names) else found)(*arguments, **names)
    return WithReferences(found, self.references, self.when) if isinstance(found, types.ModuleType) else found


def plant(name):
  """Makes ours wrong in one way."""
  from flashladder import attention, operations
  c_logits, call = attention.c_logits, operations._call

  def wrong_logits(c):
    changes = {"sm_scale": {"sm_scale": 0.5 * (c.sm_scale or c.head_dim_qk ** -0.5)}, "window": {"window_left": -1},
               "causal": {"mask": "none" if c.mask == "causal" else c.mask}}
    return c_logits(c._replace(**changes.get(name, {})))
  attention.c_logits = wrong_logits
  import flashladder.single
  flashladder.single.c_logits = wrong_logits
  if name == "norm":
    operations._call = lambda function, first, *arguments: call(
      function, first, *(1.0 if isinstance(a, float) else a for a in arguments))


def is_for_memory(error):
  """Whether memory ran out; torch.testing puts another error in front of that one."""
  while error is not None:
    if isinstance(error, MemoryError) or any(words in str(error) for words in ("out of memory", "can't allocate memory")):
      return True
    error = error.__cause__ or error.__context__
  return False


class Sample:
  """A pytest plugin: chooses tests, gives files their references, stops in time, and writes what came of each."""

  def __init__(self, said):
    self.said, self.started = said, time.monotonic()
    self.outcomes = collections.defaultdict(collections.Counter)
    self.reasons, self.failures, self.lost = collections.Counter(), [], ""
    self.whys = collections.defaultdict(collections.Counter)  # of a file and an outcome
    self.done = {}
    if said.results and pathlib.Path(said.results).exists():
      self.done = {line["test"]: line for line in map(json.loads, pathlib.Path(said.results).read_text().splitlines())}
      for line in self.done.values():
        self.count(line)

  def pytest_collection_modifyitems(self, items):
    if self.said.again:
      lines = map(json.loads, pathlib.Path(self.said.again).read_text().splitlines())
      wanted = {line["test"] for line in lines if line["outcome"] in ("failed", "refused")}
      items[:] = [item for item in items if item.nodeid in wanted]
    rank = lambda item: hashlib.sha1(f"{self.said.seed} {item.nodeid}".encode()).hexdigest()
    by_file = collections.defaultdict(list)
    for item in items:
      if item.nodeid not in self.done:
        by_file[item.path.stem].append(item)
    for group in by_file.values():
      group.sort(key=rank)
    turns = max(map(len, by_file.values()), default=0)
    items[:] = [group[i] for i in range(turns) for group in by_file.values() if i < len(group)]

  def pytest_collectreport(self, report):
    if report.failed:
      self.count({"test": str(report.nodeid), "outcome": "failed", "why": str(report.longrepr).strip().split("\n")[-1][:200]})

  def pytest_runtest_setup(self, item):
    if time.monotonic() - self.started > 60 * self.said.minutes:
      item.session.shouldstop = "the minutes are over"
    if hasattr(item.module, "flashinfer"):
      item.module.flashinfer = sys.modules["flashinfer"]
      for prefix, names, when in REFERENCES.get(item.path.stem, ()):
        if item.name.startswith(prefix):
          item.module.flashinfer = WithReferences(sys.modules["flashinfer"], names, when)

  def pytest_runtest_makereport(self, item, call):
    if call.when == "teardown" or (call.when == "setup" and call.excinfo is None):
      return
    outcome, why = "passed", ""
    if call.excinfo is not None:
      import pytest
      from flashladder import InputError
      text = str(call.excinfo.value)
      why, absent = text.strip().split("\n")[0][:200], ABSENT.search(text)
      if absent:  # said in a process that the test has started
        outcome, why = "skipped", absent[0]
      elif (name := item.nodeid.split("::")[-1]) in TAKEN and "DID NOT RAISE" in text:
        outcome, why = "skipped", TAKEN[name]
      elif call.excinfo.errisinstance((pytest.skip.Exception, pytest.xfail.Exception)):
        outcome = "skipped"
      elif self.said.cpu and any(word in why for word in NO_GPU):
        outcome, why = "skipped", "needs a GPU"
      elif is_for_memory(call.excinfo.value):
        outcome, why = "memory", ""
      elif call.excinfo.errisinstance((InputError,)) or (
          any(word in why for word in OTHERS) and not call.excinfo.errisinstance((AssertionError,))):
        outcome = "refused"
      else:
        outcome = "failed"
        self.stop_if_lost(item)
    self.write({"test": item.nodeid, "outcome": outcome, "why": why})

  def pytest_runtest_logfinish(self):
    """What torch keeps of the GPU's memory goes back, for other processes."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available() and torch.cuda.memory_reserved() > KEPT_BYTES:
      gc.collect()
      torch.cuda.empty_cache()

  def stop_if_lost(self, item):
    """After an error that the GPU does not forget, every further test would fail."""
    torch = sys.modules["torch"]
    try:
      if torch.cuda.is_available():
        torch.cuda.synchronize()
    except RuntimeError as error:
      item.session.shouldstop = self.lost = f"{item.nodeid} left the GPU in an error: {str(error).splitlines()[0]}"

  def write(self, line):
    self.count(line)
    if self.said.results and line["outcome"] != "memory":
      with open(self.said.results, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

  def count(self, line):
    file = pathlib.Path(line["test"].split("::")[0]).stem
    self.outcomes[file][line["outcome"]] += 1
    if line["outcome"] == "failed":
      self.failures.append(line)
    elif line["why"]:
      self.reasons[f"{line['outcome']}: {line['why']}"] += 1
      self.whys[file, line["outcome"]][line["why"]] += 1

  def counts(self):
    """A line for each file."""
    for file, counts in sorted(self.outcomes.items()):
      yield {"file": file, **{kind: counts[kind] for kind in ("passed", "failed", "memory")},
             **{kind: dict(self.whys[file, kind].most_common()) for kind in ("refused", "skipped")}}

  def table(self):
    kinds = ("passed", "failed", "refused", "skipped", "memory")
    yield f"{'file':32}" + "".join(f"{kind:>9}" for kind in kinds)
    for file, counts in sorted(self.outcomes.items()):
      yield f"{file:32}" + "".join(f"{counts[kind]:9}" for kind in kinds)
    total = collections.Counter()
    for counts in self.outcomes.values():
      total.update(counts)
    yield f"{'all':32}" + "".join(f"{total[kind]:9}" for kind in kinds)
    for line in self.failures[:40]:
      yield f"FAILED {line['test']}\n  {line['why']}"
    if self.lost:
      yield f"STOPPED {self.lost}"
    for why, n in self.reasons.most_common(40):
      yield f"{n:6}  {why}"


def head(said, torch):
  """The first of the JSON lines: where and of what they are."""
  git = lambda folder, *words: subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True).stdout.strip()
  cpu = next((line.partition(": ")[2] for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")), platform.machine())
  on = {"cpu": cpu} if said.cpu or not torch.cuda.is_available() else {"gpu": torch.cuda.get_device_name()}
  return {**on, "python": platform.python_version(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
          "commit": git(ROOT, "rev-parse", "--short=12", "HEAD"), "seed": said.seed,
          **({"mutant": said.mutant} if said.mutant else {})}


def exit_code(outcomes, mutant):
  """0: something passed and nothing failed; with a mutant, that something failed."""
  counted = collections.Counter()
  for counts in outcomes.values():
    counted.update(counts)
  if mutant:
    return int(counted["failed"] == 0)
  return int(counted["failed"] > 0 or counted["passed"] == 0)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
  parser.add_argument("path", type=pathlib.Path)
  parser.add_argument("--minutes", type=float, default=8)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--results")
  parser.add_argument("--again")
  parser.add_argument("--files", nargs="*", default=sorted(REFERENCES))
  parser.add_argument("--mutant", choices=MUTANTS)
  parser.add_argument("--cpu", action="store_true")
  parser.add_argument("--counts", type=pathlib.Path)
  said = parser.parse_args()
  sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tools"), str(said.path)]
  import pytest
  import torch
  if said.cpu:
    from torch_on_the_cpu import on_the_cpu
  mode = on_the_cpu(torch) if said.cpu else None
  from flashinfer_absent import stand_in
  stand_in(torch)
  if said.mutant:
    plant(said.mutant)
  files = [str(f) for name in said.files for f in said.path.glob(f"tests/*/{name}.py")]
  sample = Sample(said)
  arguments = [*files, "-q", "--no-header", "-p", "no:cacheprovider", "--noconftest", "-W", "ignore", "--tb=no", "--color=no",
               "--rootdir", str(said.path), "--import-mode=importlib",
               "--no-summary", "-qq", "--continue-on-collection-errors"]
  with mode or contextlib.nullcontext(), stand_in_for_processes():
    pytest.main(arguments, plugins=[sample])
  print("\n".join(sample.table()))
  if said.counts:
    said.counts.write_text("".join(json.dumps(line) + "\n" for line in (head(said, torch), *sample.counts())))
  return exit_code(sample.outcomes, said.mutant)


if __name__ == "__main__":
  sys.exit(main())
