#!/usr/bin/env python3
"""examples/basics/ is a user's project: it is built by its own meson.build against the installed tree alone, in an empty
folder, and each program says where it ran, prints its lines, and finds its output right. Without a GPU they run on the CPU.
   examples_test.py SOURCE_ROOT BUILD COMPILER...
At the end a program whose output is another layer's must be found wrong."""
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
    "plan_run_pattern --kv-len 100 --use-cudagraph": [*RUNS, RIGHT]}
REFUSED = {"backend_selection --backends fa4": "fa4: not a backend. There are fa2, fa3 and auto",
           "decode_attention --kv-lne 3": "--kv-lne: not an option", "prefill_attention --batch 0": "0: must be a number"}


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
    for command, sentence in REFUSED.items():
      done = run(command)
      if done.returncode != 2 or sentence not in done.stdout:
        yield f"{command}: exit code {done.returncode}, and not 2 with {sentence!r}: {done.stdout[-500:]}"
    source = project / "decode_attention.cpp"
    source.write_text(source.read_text().replace("\n  run(0);\n", "\n  run(1);\n"))
    wrong = run("decode_attention --kv-len 300") if build(tree, project, compiler) is None else None
    if wrong is None or wrong.returncode != 1 or "DOES NOT EQUAL" not in wrong.stdout:
      yield f"another layer's output passes: {wrong and wrong.stdout}"


if __name__ == "__main__":
  sys.exit("\n".join(broken(sys.argv[1], sys.argv[2], sys.argv[3:])) or 0)
