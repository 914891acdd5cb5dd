#!/usr/bin/env python3
"""Holds the include table: core <- {reference, planner, gpu, draw} <- api <- capi <- ladder <- bench <- walkthroughs <- cli.
A room may include itself and anything to its left; siblings in braces never include each other; tests see all, examples api;
an example may have headers of its own beside it.
Usage: check_layers.py [ROOT]    exit 1 and file:line: rule for each violation      check_layers.py --selftest"""
import pathlib, re, sys, tempfile

ORDER = [["core"], ["reference", "planner", "gpu", "draw"], ["api"], ["capi"], ["ladder"], ["bench"], ["walkthroughs"], ["cli"]]
ROOMS = {room: {room}.union(*ORDER[:i]) for i, rooms in enumerate(ORDER) for room in rooms}
ROOMS["python"] = {"python"}
ROOMS["simt"] = {"simt", "core", "gpu"}  # in the place of CUDA below gpu: only tests name it
ROOMS["tests"], ROOMS["examples"] = {"tests", "simt"}.union(*ORDER), {"examples"}.union(*ORDER[:3])
SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh", ".py"}
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)')
FORBIDDEN = [  # which library no file of which rooms includes
    ("Eigen", re.compile(r"(unsupported/)?Eigen/"), {"core", "planner", "gpu", "draw"}),
    ("CUDA", re.compile(r"cuda|cub/|thrust/|nv/|cooperative_groups|mma\.h|cublas|curand|nvToolsExt|nvtx3/"),
     {"core", "planner", "draw"})]
MAX_LINES = 300


def broken_rules(room, lines):
  """(line number, rule) of each violation in one source file of a room."""
  for number, line in enumerate(lines, 1):
    quote, target = match.groups() if (match := INCLUDE.match(line)) else ("", "")
    for library, pattern, rooms in FORBIDDEN:
      if room in rooms and pattern.match(target):
        yield number, f"{room} includes no {library} header, but here {target}"
    folder = target.split("/")[0] if "/" in target else ""
    if folder in ROOMS and folder not in ROOMS[room]:
      yield number, f"{room} may include only {', '.join(sorted(ROOMS[room]))}, but here {target}"
    elif quote == '"' and folder not in ROOMS and not (room == "examples" and not folder):  # a user's own headers
      yield number, f'quoted includes begin with a room, as in "core/error.hpp", but here {target}'
  if len(lines) > MAX_LINES:
    yield MAX_LINES + 1, f"a source file has at most {MAX_LINES} lines, this one {len(lines)}"


def check(root):
  files = [p for room in ROOMS for p in sorted((root / room).rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
  found = [f"{p.relative_to(root)}:{number}: {rule}" for p in files
           for number, rule in broken_rules(p.relative_to(root).parts[0], p.read_text().splitlines())]
  return found or ([] if files else [f"{root}: no source files here"])


def selftest():
  bad = {"core/a.hpp": "#include <Eigen/Core>", "core/b.hpp": "#include <cuda_fp16.h>", "gpu/k.cu": "#include <Eigen/Core>",
         "core/c.cpp": '#include "api/x.hpp"', "planner/a.cpp": '#include "gpu/x.hpp"', "cli/long.py": "\n" * 301,
         "draw/a.h": "# include <planner/x.hpp>", "reference/a.cpp": '#include "a.hpp"', "api/b/a.h": '#include "cli/x.h"',
         "examples/a.cpp": '#include "ladder/x.hpp"'}
  good = {"core/a.hpp": '#include <cmath>\n#include "core/b.hpp"\n// #include "cli/x.hpp"', "gpu/k.cu": "#include <mma.h>",
          "cli/a.cpp": '#include "bench/x.hpp"\n#include <Eigen/Core>', "tests/a.cpp": '#include "cli/x.hpp"',
          "examples/a/a.cpp": '#include "own.hpp"'}
  for sources in [{name: text} for name, text in bad.items()] + [good, {}]:
    with tempfile.TemporaryDirectory() as folder:
      for path, text in [(pathlib.Path(folder) / name, text) for name, text in sources.items()]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
      if len(found := check(pathlib.Path(folder))) != (0 if sources is good else 1):
        return [f"selftest: wrong verdict on {list(sources)}: {found}"]
  return []


if __name__ == "__main__":
  argument = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
  sys.exit("\n".join(selftest() if argument == "--selftest" else check(pathlib.Path(argument))) or 0)
