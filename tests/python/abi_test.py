#!/usr/bin/env python3
"""The structs of flashladder/_structs.py are those of the C interface: sizes, offsets and types as tests/c/abi.txt lists them,
and functions that exist with as many arguments. Needs no numpy."""
import ctypes
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, os.environ.get("FLASHLADDER_PYTHON", str(ROOT / "python")))
from flashladder import _structs as s

LETTERS = {"int32_t": "i", "int64_t": "l", "float": "f", "uint64_t": "p"}


def layout(struct):
  return [(getattr(struct, name).offset, getattr(struct, name).size, name) for name, _ in struct._fields_]


def listed(text):
  """({struct: [(offset, size, field)]}, {function: letters}) of abi.txt."""
  structs, functions, current = {}, {}, None
  for line in text.splitlines():
    if found := re.match(r"struct (\w+) (\d+) bytes", line):
      current = structs.setdefault(found[1], [])
    elif found := re.match(r"  (\d+) \+ (\d+)  \w+\.(\w+):", line):
      current.append((int(found[1]), int(found[2]), found[3]))
    elif found := re.match(r"fl_status (fl_\w+)\((.*)\);", line):
      functions[found[1]] = "".join("p" if "*" in a else LETTERS.get(a.split()[0], "?") for a in found[2].split(","))
  return structs, functions


def differences(structs, functions):
  for name, struct in s.C_NAMES.items():
    if layout(struct) != structs.get(name):
      yield f"{name}: {layout(struct)} is not {structs.get(name)}"
  for name in structs.keys() - s.C_NAMES.keys():
    yield f"{name} is in the C interface and not in _structs.py"
  for name, letters in s.FUNCTIONS.items():
    if functions.get(name) != letters:
      yield f"{name} takes {functions.get(name)}, not {letters}"


def main():
  structs, functions = listed((ROOT / "tests/c/abi.txt").read_text())
  wrong = list(differences(structs, functions))
  print("\n".join(wrong) or f"{len(s.C_NAMES)} structs and {len(s.FUNCTIONS)} functions as listed")
  broken = {**structs, "fl_on": structs["fl_on"][::-1]}
  assert list(differences(broken, functions)), "a struct in another order is not seen"
  assert list(differences(structs, {**functions, "fl_rmsnorm": "pppp"})), "a function with other arguments is not seen"
  assert ctypes.sizeof(s.Tensor) == 104
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
