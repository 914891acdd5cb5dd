#!/usr/bin/env python3
"""docs/bring-your-own-kernel.md does what it says: its console blocks are carried out one after the other in an empty
folder, against the installed tree or the source tree as the page has it, and print what the page says.
   plugin_walk_test.py SOURCE_ROOT BUILD          plugin_walk_test.py --selftest SOURCE_ROOT BUILD: a wrong page is noticed

In a block `$ command` is run by bash, `# exit 1` is its exit code, else 0; `...` alone or at the end of a line skips any
number of lines, or the rest of one. Blocks about a file in Python are left out where Python has no numpy."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from installed import installed

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.S | re.M)


def pattern(lines):
  """A regular expression for the lines of a page."""
  one = lambda line: r"(?:.*\n)*?" if line == "..." else re.escape(line.removesuffix(" ...")) + (
      r".*\n" if line.endswith(" ...") else r" *\n")
  return "".join(one(line) for line in lines)


def commands(page):
  """(command, exit code, lines that it prints) of all blocks."""
  python = os.environ.get("FLASHLADDER_PYTHON") or "python3"
  has_numpy = subprocess.run([python, "-c", "import numpy"], stderr=subprocess.DEVNULL).returncode == 0
  for block in BLOCK.findall(page):
    if ".py" in block and not has_numpy:
      print(f"left out, because {python} has no numpy:\n{block}")
      continue
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
      command, *lines = part.splitlines()
      code = re.search(r"  # exit (\d+)$", command)
      yield command, int(code[1]) if code else 0, lines


def mistakes(page, tree, root, build):
  environment = tree.environment() | {"FLASHLADDER": str(root), "NO_COLOR": "1",
                                      "PATH": f"{build / 'cli'}{os.pathsep}{os.environ['PATH']}"}
  with tempfile.TemporaryDirectory() as folder:
    ran = 0
    for command, code, lines in commands(page):
      command = command.replace("$FLASHLADDER/build/release", str(build))  # what ./climb builds; here, this build
      done = subprocess.run(["bash", "-uc", command], cwd=folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=250)
      ran += 1
      printed = re.sub(r"^\.\.\. .*\n", "", done.stdout, flags=re.M)  # without the progress of what takes long
      if done.returncode != code or not re.fullmatch(pattern(lines), printed):
        yield f"$ {command}\nexit code {done.returncode}, not {code}, or other lines than the page's:\n{done.stdout}"
        return
    if ran < 5:
      yield f"only {ran} commands on the page"


def selftest(page, tree, root, build):
  for old, new in ((" 56        7 ...", " 57        7 ..."), ("top_left_causal (the", "lost_last_page (the"),
                   ("mine.so  # exit 1", "mine.so"), ("not timed: wrong result", "not timed: crashed"),
                   ("mine, NHD p16 is number", "yours, NHD p16 is number"),
                   ("j <= i/' mine.cpp", "j <= diagonal/' mine.cpp"),
                   ("-I $FLASHLADDER/build/release/package/forward", "-I build/package/forward")):
    if old not in page:
      yield f"the page has no {old!r} to change"
    elif not list(mistakes(page.replace(old, new), tree, root, build)):
      yield f"not noticed: {old!r} becomes {new!r}"


if __name__ == "__main__":
  check = selftest if sys.argv[1] == "--selftest" else mistakes
  root, build = (pathlib.Path(path).resolve() for path in sys.argv[-2:])
  with installed(build) as tree:
    found = list(check((root / "docs" / "bring-your-own-kernel.md").read_text(), tree, root, build))
  sys.exit("\n".join(found) or 0)
