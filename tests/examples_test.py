#!/usr/bin/env python3
"""examples/basics/ is a user's project: it is built by its own meson.build against the installed tree alone, in an empty
folder, and each program says where it ran, prints its lines, and finds its output right. Without a GPU they run on the CPU.
   examples_test.py SOURCE_ROOT BUILD COMPILER...
At the end programs whose output is another layer's, or another query's on one of two streams, must be found wrong."""
import pathlib
import re
import shutil
import sys
import tempfile

from installed import installed

NUMBER = r"[\d.e+-]+"
RIGHT = r"  Output: equals the formula in double on 64 rows, largest error \S+ of a row's size"
RUNS = [rf"  First run: {NUMBER} ms", rf"  Subsequent runs: {NUMBER} ms"]
PROGRAMS = {  # command: the lines that it prints, in this order
    "prefill_attention --seq-len 70": [r"Prefill Attention \(seq_len=70, batch=4\):", rf"  Latency: {NUMBER} ms$",
                                       rf"  Compute: {NUMBER} TFLOP/s$", r"  Kernel: \w+", RIGHT],
    "decode_attention --kv-len 300": [r"Decode Attention \(kv_len=300, batch=\d+\):", rf"  Latency: {NUMBER} ms$",
                                      rf"  \w+ bandwidth: {NUMBER} [TG]B/s \(\d+% of ", r"  Split-K: \d+ work items on",
                                      RIGHT],
    "backend_selection --backends fa2,fa3,auto --seq-len 40": [
        r"Prefill Attention \(seq_len=40, batch=4\):", rf"  FA2 backend: ({NUMBER} ms|not here: )",
        rf"  FA3 backend: ({NUMBER} ms|not here: )", rf"  AUTO backend: {NUMBER} ms", RIGHT],
    "plan_run_pattern --kv-len 100": [r"Plan and run:", *RUNS, RIGHT],
    "plan_run_pattern --kv-len 100 --use-cudagraph": [*RUNS, RIGHT],
    "planned_decode": [  # the sample's lines, with our name and our figures
        r"={70}$", r"FlashLadder Decode Attention - v[\d.]+ Example$", r"={70}$", r"$",
        r"Configuration:$", r"  Batch size: 16$", r"  Number of heads: 32$",
        r"  Sequence lengths: \[512, 1024, 2048, 4096, 512, 512, 1024, 2048\]\.\.\.$", r"  Total KV tokens: 53248$",
        r"--- Planning Phase ---$", r"  Optimal chunk size: 4096$", r"  Generated 672 work descriptors$", r"$",
        r"Plan Statistics:$", r"  Chunk size: 4096$", r"  Total work units: 672$",
        r"  Tier distribution:$", r"    Tier 0: 128 \(19.0%\)$", r"    Tier 1: 128 \(19.0%\)$", r"    Tier 2: 96 \(14.3%\)$",
        r"    Tier 3: 320 \(47.6%\)$", r"    All tiers: 672 \(100.0%\)$",
        r"  Chunks per \(request, head\):$", r"    min=1, max=4, avg=1.3$", r"$", r"  First 5 descriptors:$",
        *[rf"    \[{i}\] req=0 head={i} kv=\[0,512\) tier=0 flags=0x03$" for i in range(5)], r"    \.\.\.$",
        *[rf"    Tier {t}, {512 << t} keys: {NUMBER} ms, [\d.]+% behind the best; {share}% of the plan's keys$"
          for t, share in enumerate(("3.8", "7.7", "11.5", "76.9"))],
        rf"  Four kernels could win at most {NUMBER}% of a run: ",
        r"--- Execution Phase ---$", r"  Program compiled: ", r"  Queues: \d+, one a ", r"  Executing on the [CG]PU\.\.\.$",
        r"  Execution complete!$", RIGHT, r"  Two streams: requests 0 to 13 and 14 to 15 at the same time, the same bits$",
        r"={70}$", r"FlashLadder Decode Attention v[\d.]+ Summary$", r"={70}$",
        *[rf"  {way} +(not cut|\d+) +\d+ +\d+ +[\d.]+% +{NUMBER} +{NUMBER}$" for way in (
            "none", "target", "target, two streams", r"balanced \(the default\)")],
        r" +FlashInfer CUDA \(decode\) +FlashLadder$", r"  Merge "]}
REFUSED = {"backend_selection --backends fa4": "fa4: not a backend. There are fa2, fa3 and auto",
           "decode_attention --kv-lne 3": "--kv-lne: not an option", "prefill_attention --batch 0": "0: must be a number",
           "planned_decode --batch": "--batch: not an option",
           "prefill_attention --batch 5000000": "5000000 requests: q, o and ",
           "decode_attention --batch 5000000": "5000000 requests: q, o and "}
WRONG = [  # file, text, the text in its place, the command, and what it says of its output then
    ("decode_attention.cpp", "\n  run(0);\n", "\n  run(1);\n", "decode_attention --kv-len 300", "DOES NOT EQUAL"),
    ("two_streams.hpp", "rows_from(b, b.q, first, rows)", "rows_from(b, b.q, 0, rows)", "planned_decode", "OTHER BITS")]


def build(tree, project, compiler):
  done = tree.run(["env", "CXX=" + " ".join(compiler), "meson", "setup", "out", "-Dwerror=true"], cwd=project)
  if done.returncode == 0:
    done = tree.run(["ninja", "-C", "out"], cwd=project)
  return done.stdout[-3000:] if done.returncode else None


def missing(wanted, lines):
  """The first pattern without a line behind those of the patterns before."""
  at = 0
  for pattern in wanted:
    at = next((i + 1 for i in range(at, len(lines)) if re.match(pattern, lines[i])), None)
    if at is None:
      return pattern


def wrong_figures(text):
  """What planned_decode prints must follow from what it prints."""
  tiers = [[float(x) for x in row] for row in re.findall(
      rf"^    Tier \d, \d+ keys: ({NUMBER}) ms, ([\d.]+)% behind the best; ([\d.]+)% of", text, re.M)]
  best = min(ms for ms, _, _ in tiers)
  for ms, behind, _ in tiers:
    if abs(100 * (1 - best / ms) - behind) > 0.2:
      yield f"{ms} ms are not {behind}% behind {best} ms"
  win = float(re.search(rf"could win at most ({NUMBER})%", text)[1])
  if abs(sum(behind * share for _, behind, share in tiers) / 100 - win) > 0.2:
    yield f"four kernels could not win {win}% by {tiers}"
  head_dim = int(re.search(r"Head dim: (\d+), f16", text)[1])
  bytes_read = 2 * 2 * head_dim * 32 * (53248 + 16)  # K and V of all tokens, q and o of 16 requests
  for used, ms, rate in re.findall(rf"^  \S.* +([\d.]+)% +({NUMBER}) +({NUMBER})$", text, re.M):
    if not 0 < float(used) <= 100 or abs(float(ms) * float(rate) * 1e6 / bytes_read - 1) > 0.01:
      yield f"{used}% used, {ms} ms, {rate} GB/s: not {bytes_read} bytes, or not a part of the machine"


def broken(root, build_root, compiler):
  with installed(build_root) as tree, tempfile.TemporaryDirectory() as folder:
    project = pathlib.Path(folder) / "basics"
    shutil.copytree(pathlib.Path(root) / "examples" / "basics", project, ignore=shutil.ignore_patterns("out"))
    if (error := build(tree, project, compiler)):
      yield f"examples/basics does not build: {error}"
      return
    run = lambda command: tree.run(["out/" + command.split()[0], *command.split()[1:]], cwd=project)
    for command, wanted in PROGRAMS.items():
      done = run(command)
      print(f"$ {command}\n{done.stdout}")
      pattern = missing([r"On the (GPU$|CPU, with a smaller default shape: \w)", *wanted], done.stdout.splitlines())
      if done.returncode or pattern:
        yield f"{command}: exit code {done.returncode}, no line {pattern}:\n{done.stdout[-2000:]}"
      elif command == "planned_decode":
        yield from wrong_figures(done.stdout)
    for name in sorted({command.split()[0] for command in PROGRAMS}):
      done = run(f"{name} --help")
      if done.returncode or not re.search(rf"^Usage: \S*{name} \[options\]$", done.stdout, re.M):
        yield f"{name} --help: exit code {done.returncode}: {done.stdout[-500:]}"
    for command, sentence in REFUSED.items():
      done = run(command)
      if done.returncode != 2 or sentence not in done.stdout:
        yield f"{command}: exit code {done.returncode}, and not 2 with {sentence!r}: {done.stdout[-500:]}"
    for name, old, new, _, _ in WRONG:
      source = project / name
      source.write_text(source.read_text().replace(old, new))
    if (error := build(tree, project, compiler)):
      yield f"the wrong programs do not build: {error}"
      return
    for *_, command, sentence in WRONG:
      done = run(command)
      if done.returncode != 1 or sentence not in done.stdout:
        yield f"a wrong output passes in {command}: {done.stdout}"


if __name__ == "__main__":
  sys.exit("\n".join(broken(sys.argv[1], sys.argv[2], sys.argv[3:])) or 0)
