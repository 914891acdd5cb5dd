#!/usr/bin/env python3
"""What does each part of the build cost, and is that within its budget (tests/build_budget.json)?

  build_cost.py measure BUILD [TARGET] [--jobs N] [--top N] [--out LINES.jsonl]
      Runs every command of TARGET (all) in a configured BUILD without any cache and adds up CPU seconds (user + sys, with
      children) by room of the source tree. N commands at a time (2): waiting costs no CPU time. A line of --out is
      {"target", "room", "steps", "cpu_s", "kernels"}, kernels as ptxas reported them (gpu/compile.py), all architectures.
  build_cost.py record BUILD TARGET    what ./check builds with: Ninja, and BUILD/build_cost.json says what it cost
  build_cost.py kernels BUILD          a test: each family has no more kernels an architecture than its budget says
  build_cost.py time BUILD CXX         a test: what was recorded is within the budget. Machines differ and a busy one is
      slower, so a small file is compiled as a yardstick, and the budget holds in yardsticks. What is over the budget fails
      even if a part of it came from ccache (a compiler's identical objects are found there in a first build, too). What is
      not over it is skipped then, with the reason, as it is if nothing was recorded or only a part was built.
  build_cost.py --selftest
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "tests" / "build_budget.json"
KERNEL = re.compile(r"Compiling entry function '[^']*' for '(\w+)'")
SKIPPED = 77


def run(command, keep_output=True, **options):
  """(exit code, output if it is kept, CPU seconds of the command and its children)"""
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if keep_output else {}
  process = subprocess.Popen(command, **pipes, **options)
  output = process.stdout.read().decode(errors="replace") if keep_output else ""
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  return process.returncode, output, usage.ru_utime + usage.ru_stime


def room_of(output):
  """The room that an output of the build belongs to; on the GPU its family, and each rung of a ladder is one."""
  parts = pathlib.PurePath(output).parts
  if "gpu_mutants" in parts:
    return "tests: GPU mutants"
  if parts[0] == "gpu":
    rung = re.match(r"[a-z]+\d+(?=_)", parts[-1])
    return "/".join(["gpu", *parts[2:-1], *([rung[0]] if rung else [])])
  return "ladder/cases" if parts[:2] == ("ladder", "cases") else parts[0]


def kernels_of(log):
  """{architecture: kernels} in one of ptxas' reports"""
  return collections.Counter(KERNEL.findall(log.read_text())) if log.is_file() else collections.Counter()


def steps_of(folder, target, jobs):
  """[(output, CPU seconds, kernels)] of every command that makes the target, each run once."""
  ninja = ["ninja", "-C", str(folder), "-t"]
  wanted = subprocess.run([*ninja, "commands", target], capture_output=True, text=True, check=True).stdout.splitlines()
  rules = subprocess.run(["ninja", "-t", "compdb", "-x"], cwd=folder, capture_output=True, text=True, check=True).stdout
  outputs = {rule["command"]: rule["output"] for rule in json.loads(rules)}
  steps, no_cache = [], os.environ | {"CCACHE_DISABLE": "1"}

  def step(command):
    output = folder / outputs[command]
    output.parent.mkdir(parents=True, exist_ok=True)
    code, said, cpu = run(command, shell=True, cwd=folder, env=no_cache)
    if code:
      raise SystemExit(f"{command}\n{said[-4000:]}")
    steps.append((outputs[command], cpu, sum(kernels_of(pathlib.Path(f"{output}.ptxas")).values())))

  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    compiling = []
    for command in (c for c in wanted if c in outputs):
      if " -c " in command:
        compiling.append(pool.submit(step, command))
        continue
      while compiling:  # what links or generates comes after what it may need, before what may need it
        compiling.pop().result()
      step(command)
    while compiling:
      compiling.pop().result()
  return steps


def measure(o):
  steps = steps_of(o.folder.resolve(), o.target, o.jobs)
  rooms = collections.defaultdict(lambda: [0, 0.0, 0])
  for output, cpu, kernels in steps:
    for name in (room_of(output), "total"):
      rooms[name] = [a + b for a, b in zip(rooms[name], (1, cpu, kernels))]
  rows = sorted(((name, *sums) for name, sums in rooms.items()), key=lambda row: (row[0] == "total", -row[2]))
  for name, count, cpu, kernels in rows:
    print(f"{name:<24} {count:>4} steps {cpu:>8.1f} s" + (f" {kernels:>5} kernels" if kernels else ""))
  for output, cpu, _ in sorted(steps, key=lambda step: -step[1])[:o.top]:
    print(f"{cpu:8.1f} s  {output}")
  if o.out:
    o.out.write_text("".join(json.dumps({"target": o.target, "room": name, "steps": count, "cpu_s": round(cpu, 1),
                                         "kernels": kernels}) + "\n" for name, count, cpu, kernels in rows))
  return 0


def record(o):
  log, statistics = o.folder / ".ninja_log", o.folder.resolve() / "ccache.log"
  before = log.read_bytes() if log.is_file() else None
  statistics.unlink(missing_ok=True)
  code, _, cpu = run(["ninja", "-C", str(o.folder), o.target], keep_output=False,
                     env=os.environ | {"CCACHE_STATSLOG": str(statistics)})
  hits = len(re.findall(r"^(?:direct|preprocessed)_cache_hit$", statistics.read_text(), re.M)) if statistics.is_file() else 0
  if log.is_file() and log.read_bytes() != before:  # there was something to do
    cost = {"target": o.target, "whole": before is None and code == 0, "cpu_s": round(cpu, 1), "from_ccache": hits}
    (o.folder / "build_cost.json").write_text(json.dumps(cost) + "\n")
  return code


def too_many(counted, budget):
  """Sentences about the families that have more kernels than the budget allows."""
  return [f"{family}: {count} kernels for {arch}, {budget.get(family, 0)} are in the budget"
          for family, archs in sorted(counted.items()) for arch, count in sorted(archs.items())
          if count > budget.get(family, 0)]


def kernels(o):
  counted = collections.defaultdict(collections.Counter)
  for log in sorted(o.folder.rglob("*.ptxas")):
    if log.with_suffix("").exists():
      counted[room_of(log.relative_to(o.folder))] += kernels_of(log)
  for family, archs in sorted(counted.items()):
    print(f"{family:<24} " + ", ".join(f"{count} for {arch}" for arch, count in sorted(archs.items())))
  if not any(counted.values()):
    return f"no kernel under {o.folder}"
  return "\n".join(too_many(counted, json.loads(BUDGET.read_text())["kernels"])) or 0


def yardstick(cxx):
  """CPU seconds that a compile of everyday headers takes here and now; the least of three."""
  text = "".join(f"#include <{h}>\n" for h in ("algorithm", "functional", "map", "string", "vector", "sstream"))
  text += 'std::map<std::string, std::vector<int>> m;\nint main() { m["a"].push_back(1); return std::ostringstream() ? 0 : 1; }\n'
  with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder) / "yardstick.cpp"
    source.write_text(text)
    return min(run([cxx, "-std=c++20", "-O1", "-c", source.name], cwd=folder)[2] for _ in range(3))


def why_not_judged(recorded):
  if recorded is None:
    return "no build was recorded (./check records its own)"
  return "" if recorded["whole"] else "only a part was built when it was recorded"


def verdict(recorded, allowed):
  """(exit code, sentence) about a whole build that may take so many CPU seconds."""
  if recorded["cpu_s"] > allowed:
    return 1, "over the budget"
  if recorded["from_ccache"]:
    return SKIPPED, f"{recorded['from_ccache']} objects came from ccache"
  return 0, "within the budget"


def allowed_s(budget, gpu, now):
  """CPU seconds that a build may take where the yardstick takes `now`."""
  return budget[gpu] * now / budget["yardstick_cpu_s"] * budget["allowance"]


def time_of_build(o):
  path = o.folder / "build_cost.json"
  recorded = json.loads(path.read_text()) if path.is_file() else None
  if reason := why_not_judged(recorded):
    print(reason)
    return SKIPPED
  budget = json.loads(BUDGET.read_text())["build_time"]
  gpu = "with kernels" if any(o.folder.rglob("*.ptxas")) else "without kernels"
  now, stated = yardstick(o.cxx), budget["yardstick_cpu_s"]
  allowed = allowed_s(budget, gpu, now)
  print(f"{recorded['cpu_s']:.0f} CPU seconds {gpu}; the budget is {budget[gpu]:.0f} where the yardstick takes {stated} s; "
        f"here it takes {now:.2f} s, so with an allowance of {budget['allowance']}: {allowed:.0f}")
  code, sentence = verdict(recorded, allowed)
  print(sentence)
  return code


def selftest():
  log = pathlib.Path(tempfile.mkdtemp()) / "x.ptxas"
  log.write_text("".join(f"ptxas info    : Compiling entry function '{kernel}' for '{arch}'\n"
                         for kernel, arch in (("_Z1f", "sm_80"), ("_Z1f", "sm_90"), ("_Z1g", "sm_90"))))
  counted = {"gpu/decode/d1": kernels_of(log)}
  assert counted["gpu/decode/d1"] == {"sm_80": 1, "sm_90": 2}
  assert too_many(counted, {"gpu/decode/d1": 2}) == [] and len(too_many(counted, {"gpu/decode/d1": 1})) == 1
  assert len(too_many(counted, {})) == 2, "a family without a budget"
  rooms = {"gpu/libgpu.a.p/decode/d4_pipeline.o": "gpu/decode/d4", "gpu/libgpu.a.p/norm/norm.o": "gpu/norm",
           "gpu/libgpu.a.p/device.o": "gpu", "tests/gpu_mutants/test_gpu_mutants.p/mutants_d5.o": "tests: GPU mutants",
           "ladder/cases/libcases.a.p/case.cpp.o": "ladder/cases", "cli/flashladder": "cli"}
  assert {output: room_of(output) for output in rooms} == rooms
  good = {"whole": True, "from_ccache": 0, "cpu_s": 100}
  assert why_not_judged(good) == "" and why_not_judged(None) and why_not_judged({**good, "whole": False})
  assert verdict(good, 100)[0] == 0 and verdict(good, 99)[0] == 1
  cached = {**good, "from_ccache": 3}
  assert verdict(cached, 100)[0] == SKIPPED and verdict(cached, 99)[0] == 1, "a cache can only make it less"
  assert run(["sh", "-c", "exit 3"])[0] == 3 and 0 < run([sys.executable, "-c", "sum(range(10**6))"])[2] < 10
  busy = "import time\nwhile time.process_time() < 0.2: pass"
  assert 0.2 <= run([sys.executable, "-c", busy])[2] < 2, "seconds of user and system together"
  budget = {"with kernels": 600, "yardstick_cpu_s": 0.5, "allowance": 1.25}
  assert allowed_s(budget, "with kernels", 0.5) == 750 and allowed_s(budget, "with kernels", 1.0) == 1500
  return 0


def main():
  if sys.argv[1:] == ["--selftest"]:
    return selftest()
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  commands = parser.add_subparsers(required=True)
  for name, action in {"measure": measure, "record": record, "kernels": kernels, "time": time_of_build}.items():
    command = commands.add_parser(name)
    command.set_defaults(action=action)
    command.add_argument("folder", type=pathlib.Path)
    if name in ("measure", "record"):
      command.add_argument("target", nargs="?", default="all")
    if name == "measure":
      command.add_argument("--jobs", type=int, default=2)
      command.add_argument("--top", type=int, default=0, help="print the dearest steps too")
      command.add_argument("--out", type=pathlib.Path)
    if name == "time":
      command.add_argument("cxx")
  o = parser.parse_args()
  return o.action(o)


if __name__ == "__main__":
  sys.exit(main())
