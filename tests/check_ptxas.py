#!/usr/bin/env python3
"""Reads what ptxas said of every kernel: check_ptxas.py DIR | --selftest    DIR holds *.ptxas (gpu/compile.py).
Fails on register spills, on local memory, and on the notes that mean serialised wgmma (C7510, C7512, C7514), which are of
info level and pass every -Werror. Finding no kernel is a failure too. Prints kernels and the most registers."""
import pathlib
import re
import sys

KERNEL = re.compile(r"Function properties for (\S+)")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
NOTE = re.compile(r"\(C75\d\d\)")


def problems(text):
  """Yields what is wrong; the last item is (kernels, most registers)."""
  kernels, most, name = 0, 0, "?"
  for line in text.splitlines():
    if match := KERNEL.search(line):
      kernels, name = kernels + 1, match[1]
    if (match := STACK.search(line)) and any(int(n) for n in match.groups()):
      yield f"{name}: {line.strip()}"
    if match := REGISTERS.search(line):
      most = max(most, int(match[1]))
    if NOTE.search(line):
      yield line.strip()
  yield kernels, most


def main(argument):
  if argument == "--selftest":
    good = ("ptxas info : Function properties for f\n"
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nUsed 9 registers")
    bad = [good.replace("0 bytes spill stores", "4 bytes spill stores"),
           good + "\nptxas info : (C7510) Potential Performance Loss"]
    return 0 if [*problems(good)] == [(1, 9)] and all(len([*problems(text)]) == 2 for text in bad) else "selftest failed"
  logs = sorted(pathlib.Path(argument).rglob("*.ptxas"))
  *found, (kernels, most) = problems("".join(log.read_text() for log in logs))
  print(f"{kernels} kernels in {len(logs)} files, at most {most} registers")
  return "\n".join(found) or (0 if kernels else f"no kernel under {argument}")


if __name__ == "__main__":
  sys.exit(main(sys.argv[1]))
