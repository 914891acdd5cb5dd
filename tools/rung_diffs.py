#!/usr/bin/env python3
"""How much a reader of the GPU's ladder meets anew from one rung to the next.

  rung_diffs.py [SOURCE_ROOT] [--files] | --selftest        --files: each part of a step

A rung is its own file, and the headers of gpu/ that this file needs, directly or through others. A step from a rung to the
next costs: the lines by which their own files differ, and all lines of the headers that only one of the two needs. Comments,
blank lines and indentation do not count, nor do names that differ only in the number of the rung (p6, p7).
"""
import difflib, pathlib, re, sys, tempfile

RUNG_FILE = re.compile(r"([dp])(\d+)_\w+\.cu")
INCLUDE = re.compile(r'^#include "(gpu/[^"]+)"', re.M)
COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.S)


def rungs(root, family):
  """[(number, path)] of the family's rungs, from the lowest up."""
  folder = root / "gpu" / {"d": "decode", "p": "prefill"}[family]
  found = [(int(match[2]), path) for path in folder.glob("*.cu") if (match := RUNG_FILE.fullmatch(path.name))]
  return sorted(found)


def code(path, number=None):
  """The file's lines without comments and blank lines; rung `number` is called pN."""
  text = COMMENT.sub(lambda m: m[0] if m[0].startswith('"') else "", path.read_text())
  if number is not None:
    text = re.sub(rf"(?<![a-z0-9])([dp]){number}(?![a-z0-9])", r"\1N", text)
  return [line.strip() for line in text.splitlines() if line.strip()]


def headers(root, path):
  """The headers of gpu/ that the file needs."""
  found, to_read = set(), [path]
  while to_read:
    for name in INCLUDE.findall(to_read.pop().read_text()):
      if name not in found and (root / name).exists():
        found.add(name)
        to_read.append(root / name)
  return found


def difference(below, above):
  """(lines added, lines removed)"""
  lines = [line[0] for line in difflib.ndiff(below, above)]
  return lines.count("+"), lines.count("-")


def step(root, below, above):
  """[(what, added, removed)]: the rungs' own files first, then each header that only one of the two needs."""
  (n, lower), (m, upper) = below, above
  needs, needed = headers(root, upper), headers(root, lower)
  parts = [(f"{lower.name} -> {upper.name}", *difference(code(lower, n), code(upper, m)))]
  parts += [(name, len(code(root / name)), 0) for name in sorted(needs - needed)]
  return parts + [(name, 0, len(code(root / name))) for name in sorted(needed - needs)]


def table(root, files=False):
  yield ("step         own file     headers      both\n"
         "             added removed  added removed  added removed")
  for family in "dp":
    ladder = rungs(root, family)
    if not ladder:
      sys.exit(f"no rung {family.upper()}1 under {root / 'gpu'}")
    for below, above in zip(ladder, ladder[1:]):
      parts = step(root, below, above)
      own, others = parts[0][1:], [sum(part[i] for part in parts[1:]) for i in (1, 2)]
      name = f"{family.upper()}{below[0]} -> {family.upper()}{above[0]}"
      yield f"{name:<12} {own[0]:5} {own[1]:7} {others[0]:6} {others[1]:7} {own[0] + others[0]:6} {own[1] + others[1]:7}"
      for what, added, removed in parts if files else []:
        yield f"    +{added:<4} -{removed:<4} {what}"


def selftest():
  """A ladder of three rungs whose steps are known."""
  tree = {"gpu/decode/d1_a.cu": '#include "gpu/x.cuh"\nint d1; // one\n\n', "gpu/x.cuh": '#include "gpu/y.cuh"\nint x;\n',
          "gpu/y.cuh": "// nothing\nint y; /* two\nlines */\n", "gpu/z.cuh": 'const char* z = "// text";\n',
          "gpu/decode/d2_b.cu": '#include "gpu/x.cuh"\n  int d2;  // other\nint more;\n',
          "gpu/decode/d10_c.cu": '#include "gpu/z.cuh"\nint d10;\n', "gpu/prefill/p1_d.cu": "int p1;\n"}
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    for name, text in tree.items():
      (root / name).parent.mkdir(parents=True, exist_ok=True)
      (root / name).write_text(text)
    steps = [line.split() for line in table(root)][1:]
  wanted = [["D1", "->", "D2", "1", "0", "0", "0", "1", "0"], ["D2", "->", "D10", "1", "2", "1", "3", "2", "5"]]
  return 0 if steps == wanted else f"selftest failed: {steps}"


def main(arguments):
  if arguments == ["--selftest"]:
    return selftest()
  files = "--files" in arguments
  roots = [a for a in arguments if not a.startswith("--")]
  root = pathlib.Path(roots[0] if roots else __file__).resolve()
  if not roots:
    root = root.parent.parent
  print("\n".join(table(root, files)))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
