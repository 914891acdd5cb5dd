#!/usr/bin/env python3
"""Every header compiles alone: nobody must know what to include before it.
Usage: check_headers.py DIR... -- COMPILER FLAG...   from anywhere; DIRs are rooms of the source tree, such as core.
Names each .hpp that does not compile, with the first errors, and exits 1. Finding no header at all is a failure too."""
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
JOBS, ERROR_LINES = 2, 6


def compile_alone(compiler, header):
  # As an included file, since "#pragma once" in a main file is a warning.
  run = subprocess.run([*compiler, f"-I{ROOT}", "-fsyntax-only", "-x", "c++", "-"], cwd=ROOT, capture_output=True, text=True,
                       input=f'#include "{header.relative_to(ROOT)}"\n')
  return None if run.returncode == 0 else "\n".join([f"{header.relative_to(ROOT)} does not compile alone:",
                                                      *run.stderr.splitlines()[:ERROR_LINES]])


def main(arguments):
  if "--" not in arguments:
    return __doc__
  split = arguments.index("--")
  folders, compiler = arguments[:split], arguments[split + 1:]
  headers = [header for folder in folders for header in sorted((ROOT / folder).rglob("*.hpp"))]
  if not headers or not compiler:
    return f"nothing to compile: {len(headers)} headers in {folders}, compiler {compiler}"
  with ThreadPoolExecutor(JOBS) as pool:
    failures = [text for text in pool.map(lambda header: compile_alone(compiler, header), headers) if text]
  print(f"{len(headers) - len(failures)} of {len(headers)} headers compile alone")
  return "\n".join(failures)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]) or 0)
