#!/usr/bin/env python3
"""Every header compiles alone: nobody must know what to include before it.
Usage: check_headers.py COMPILE_COMMANDS.json DIR... -- COMPILER FLAG...    from anywhere; DIRs are rooms of the source tree.
       check_headers.py --selftest
A header that a source of this build includes before anything else was compiled alone by that source, and so was the header
that it begins with in turn. The others are compiled here. Names each .hpp that does not compile, with the first errors, and
exits 1. Finding no header at all is a failure too."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
ERROR_LINES = 6
FIRST = re.compile(r'^[ \t]*#[ \t]*(include|if|ifdef|ifndef|define)\b[ \t]*("([^"]+)")?', re.M)
JOINED = re.compile(r'#include\s*[<"]([^>"]+)')


def first_include(root, path):
  """The header of the tree that the file begins with; None where another one, a condition or a macro comes before it."""
  match = FIRST.search((root / path).read_text())
  return match[3] if match and match[1] == "include" and match[3] and (root / match[3]).is_file() else None


def proven(root, sources):
  """The headers that some source begins with, and those that such a header begins with."""
  found, todo = set(), list(sources)
  while todo:
    header = first_include(root, todo.pop())
    if header and header not in found:
      found.add(header)
      todo.append(header)
  return found


def built_sources(root, commands):
  """The sources that a compiler began with: where Meson compiles several as one, the first of them."""
  files = [(pathlib.Path(c["directory"]) / c["file"]).resolve() for c in json.loads(pathlib.Path(commands).read_text())]
  files += [pathlib.Path(JOINED.match(file.read_text())[1]).resolve() for file in files if "-unity" in file.name]
  return [str(file.relative_to(root)) for file in files if file.is_relative_to(root) and file.is_file()]


def compile_alone(compiler, header):
  # As an included file, since "#pragma once" in a main file is a warning.
  run = subprocess.run([*compiler, f"-I{ROOT}", "-fsyntax-only", "-x", "c++", "-"], cwd=ROOT, capture_output=True, text=True,
                       input=f'#include "{header}"\n')
  errors = run.stderr.splitlines()[:ERROR_LINES]
  return None if run.returncode == 0 else "\n".join([f"{header} does not compile alone:", *errors])


def selftest():
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    files = {"a.hpp": '#pragma once\n#include "b.hpp"\n', "b.hpp": "#pragma once\n#include <vector>\n", "c.hpp": "",
             "1.cpp": '// Comment.\n#include "a.hpp"\n#include "c.hpp"\n',
             "2.cpp": '#include <map>\n#include "c.hpp"\n',
             "d.hpp": "", "3.cpp": '#define X\n#include "d.hpp"\n'}
    for name, text in files.items():
      (root / name).write_text(text)
    assert proven(root, ["1.cpp", "2.cpp", "3.cpp"]) == {"a.hpp", "b.hpp"}, "own headers first"
    (root / "x-unity0.cpp").write_text(f"#include<{root}/1.cpp>\n#include<{root}/2.cpp>\n")
    (root / "commands.json").write_text(json.dumps([{"directory": folder, "file": "x-unity0.cpp"}]))
    assert built_sources(root, root / "commands.json") == ["x-unity0.cpp", "1.cpp"], "only the first of joined sources"
  failure = compile_alone(["c++"], "no/such_header.hpp")
  assert failure and "does not compile alone" in failure, failure
  return 0


def main(arguments):
  if arguments == ["--selftest"]:
    return selftest()
  if "--" not in arguments[2:]:
    return __doc__
  split = arguments.index("--")
  commands, folders, compiler = arguments[0], arguments[1:split], arguments[split + 1:]
  headers = [str(header.relative_to(ROOT)) for folder in folders for header in sorted((ROOT / folder).rglob("*.hpp"))]
  if not headers or not compiler:
    return f"nothing to compile: {len(headers)} headers in {folders}, compiler {compiler}"
  known = proven(ROOT, built_sources(ROOT, commands))
  rest = [header for header in headers if header not in known]
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    failures = [text for text in pool.map(lambda header: compile_alone(compiler, header), rest) if text]
  print(f"{len(headers) - len(failures)} of {len(headers)} headers compile alone; {len(headers) - len(rest)} begin a source")
  return "\n".join(failures)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]) or 0)
