#!/usr/bin/env python3
"""The C interface changes only where somebody means it to: its functions with their types, every struct's size and
offsets, every constant, and what libflashladder.so exports are those of tests/c/abi.txt.
   abi_test.py SOURCE_ROOT BUILD C_COMPILER...

A program that was linked against an older library goes on to work if lines of abi.txt are only added, and of structs only at
their end. To add some: abi_test.py --write SOURCE_ROOT BUILD C_COMPILER...; whoever changes or removes a line raises
FLASHLADDER_VERSION_MAJOR (before 1.0 the minor version), from which the name of the library follows.
At the end the header is changed in one way after the other, and every change must be noticed."""
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

from installed import installed

HEADERS = ("flashladder.h", "serving.h", "operations.h")


def parsed(header):
  """(structs: {name: [(type, field)]}, constants, functions with their types) of the header."""
  text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
  structs = {}
  for body, name in re.findall(r"typedef struct \w+ {(.*?)^} (\w+);", text, re.S | re.M):
    structs[name] = []
    for declaration in filter(None, (part.strip() for part in body.split(";"))):
      base = re.match(r"(?:const )?\w+", declaration)[0]
      for one in declaration[len(base):].split(","):
        structs[name].append((base + "*" * one.count("*"), re.search(r"\w+", one)[0]))
  constants = [name for body in re.findall(r"enum {(.*?)}", text, re.S) for name in re.findall(r"(FL_\w+) =", body)]
  functions = [" ".join(f.split()) for f in re.findall(r"^(?!static|typedef)[a-z][\w* ]*\bfl_\w+\([^;{]*\);", text, re.M)]
  return structs, constants, functions


def layout_program(structs, constants):
  yield "#include <flashladder/flashladder.h>\n#include <stdio.h>\nint main(void) {\n"
  for name, fields in structs.items():
    yield f'  printf("struct {name} %zu bytes\\n", sizeof({name}));\n'
    for kind, field in fields:
      yield (f'  printf("  %zu + %zu  {name}.{field}: {kind}\\n", offsetof({name}, {field}),\n'
             f'         sizeof((({name}*)0)->{field}));\n')
  for constant in constants:
    yield f'  printf("{constant} = %d\\n", (int){constant});\n'
  yield "  return 0;\n}\n"


def layout(include, compiler):
  """The lines of abi.txt but for the exports."""
  structs, constants, functions = parsed("".join((include / "flashladder" / name).read_text() for name in HEADERS))
  with tempfile.TemporaryDirectory() as folder:
    source, program = pathlib.Path(folder) / "layout.c", pathlib.Path(folder) / "layout"
    source.write_text("".join(layout_program(structs, constants)))
    done = subprocess.run([*compiler, "-std=c11", f"-I{include}", source, "-o", program], capture_output=True, text=True)
    if done.returncode:
      return [f"this header does not compile: {done.stderr}"]
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
  return functions + printed


def holes(lines):
  """Bytes of a struct that are in no field: the next field would begin there, where an older caller left anything at all."""
  end = size = 0
  name = ""
  for line in [*lines, "struct end 0 bytes"]:
    if match := re.match(r"struct (\w+) (\d+) bytes", line):
      if end != size:
        yield f"{name} has {size - end} bytes at its end that are in no field: add a `reserved`"
      name, size, end = match[1], int(match[2]), 0
    elif match := re.match(r"  (\d+) \+ (\d+)  (\S+):", line):
      if int(match[1]) != end:
        yield f"{match[3]} has a hole before it"
      end = int(match[1]) + int(match[2])


def exports(library):
  listed = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
  return sorted(f"exported {name}" for name in re.findall(r" (fl_\w+)$", listed, re.M))


def changes():
  """(old, new) in the header: each changes the interface."""
  return [("int32_t num_qo_heads, num_kv_heads,", "int32_t num_kv_heads, num_qo_heads,"), ("size_t device_bytes;\n", ""),
          ("float sm_scale;", "double sm_scale;"), ("FL_CUDA_ERROR = 3", "FL_CUDA_ERROR = 5"),
          ("int32_t layout, reserved;", "int32_t layout;"), ("fl_status fl_merge_states(", "fl_status fl_merge_all("),
          ("const int32_t* kv_indptr;", "const int64_t* kv_indptr;"),
          ("float eps, const fl_on* on);", "double eps, const fl_on* on);"), ("int64_t shape[5]", "int64_t shape[6]")]


def main(write, root, build, compiler):
  committed = pathlib.Path(root) / "tests" / "c" / "abi.txt"
  with installed(build) as tree, tempfile.TemporaryDirectory() as folder:
    if not tree.shared.is_file():
      print("no shared library in this build: what it exports is not looked at")
    lines = layout(tree.include, compiler)
    now = lines + (exports(tree.shared) if tree.shared.is_file() else [])
    if write:
      committed.write_text("\n".join(now) + "\n")
      return 0
    wanted = committed.read_text().splitlines()
    if not tree.shared.is_file():
      wanted = [line for line in wanted if not line.startswith("exported ")]
    found = list(difflib.unified_diff(wanted, now, "tests/c/abi.txt", "this build", lineterm="", n=0)) + list(holes(now))
    changed = pathlib.Path(folder) / "flashladder"
    changed.mkdir()
    headers = {name: (tree.header_dir / name).read_text() for name in (*HEADERS, "version.h")}
    for old, new in changes():
      for name, text in headers.items():
        (changed / name).write_text(text.replace(old, new, 1))
      if not any(old in text for text in headers.values()) or layout(pathlib.Path(folder), compiler) == lines:
        found.append(f"not noticed: {old!r} becomes {new!r}")
    if not list(holes(["struct s 16 bytes", "  0 + 8  s.size: size_t", "  8 + 4  s.a: int32_t"])):
      found.append("a hole is not noticed")
  return "\n".join(found) or 0


if __name__ == "__main__":
  arguments = sys.argv[1:]
  write = arguments[0] == "--write"
  arguments = arguments[write:]
  sys.exit(main(write, arguments[0], arguments[1], arguments[2:]))
