#!/usr/bin/env python3
"""Runs the Python blocks of docs/case_format.md as they stand: the case file that each writes is one that a rung computes,
and what it expects is what the rung gives. A wrong lse base, an unknown rung and a missing file end as the page says.
Usage: python_blocks_test.py FLASHLADDER SOURCE_ROOT    exit 77 (skipped) where no block's modules are installed"""
import importlib.util, pathlib, re, subprocess, sys, tempfile


def blocks(page):
  return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.S | re.M)


def modules(block):
  return {name.split(".")[0] for name in re.findall(r"^(?:import|from) ([\w.]+)", block, re.M)}


def written_by(block, room):
  subprocess.run([sys.executable, "-c", block], cwd=room, check=True)
  return sorted(pathlib.Path(room).glob("*.safetensors"))


def exit_code(flashladder, *arguments):
  done = subprocess.run([flashladder, "run", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True)
  print(f"run {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}")
  return done.returncode


def wrong(flashladder, block):
  with tempfile.TemporaryDirectory() as room:
    files = written_by(block, room)
    if not files:
      yield "writes no case file"
    for file in files:
      for rung in ("C0", "C4"):
        if exit_code(flashladder, "--in", file, "--rung", rung) != 0:
          yield f"{file.name} by {rung}: not equal, or not computed"
      if exit_code(flashladder, "--in", file, "--rung", "C99") != 2:
        yield "an unknown rung is not bad input"
  if "/ math.log(2)" in block:
    with tempfile.TemporaryDirectory() as room:
      (file,) = written_by(block.replace(" / math.log(2)", ""), room)
      if exit_code(flashladder, "--in", file, "--rung", "C0") != 1:
        yield "a natural lse is taken for base 2"
  if exit_code(flashladder, "--in", "there-is-no-such-file.safetensors") != 2:
    yield "a missing file is not bad input"


def main(flashladder, source):
  found, ran = [], 0
  for block in blocks(pathlib.Path(source) / "docs" / "case_format.md"):
    missing = [name for name in modules(block) if importlib.util.find_spec(name) is None]
    if missing:
      print("not run, for want of", ", ".join(missing))
      continue
    ran += 1
    found += wrong(flashladder, block)
  print("\n".join(found) or f"{ran} blocks run")
  return 1 if found else 0 if ran else 77


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
