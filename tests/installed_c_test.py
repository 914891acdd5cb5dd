#!/usr/bin/env python3
"""The C interface as a C program meets it: tests/c/*.c compiled as C11 with strict warnings against the installed tree
alone, linked with the shared library and with the archive, and run.
   installed_c_test.py SOURCE_ROOT BUILD C_COMPILER...
   installed_c_test.py --gpu TOOLKIT SOURCE_ROOT BUILD C_COMPILER...    tests/c_gpu; exit code 77 where there is no GPU
tests/c/attention.c prints a plan: it must be JSON, and its work must be all of the batch's."""
import itertools
import json
import pathlib
import sys
import tempfile

from installed import installed

STRICT = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion",
          "-Wstrict-prototypes", "-Werror"]
SKIPPED = 77


class Skipped(Exception):
  pass


def wrong_plan(text):
  """The batch of tests/c/attention.c: 3 requests of 7, 0 and 9 keys, 2 KV heads. Every key of every head is in one item."""
  plan = json.loads(text)
  keys = {}
  for part in plan["parts"]:
    for item in part["items"]:
      for key in range(*item["keys"]):
        at = item["request"], item["head"], key
        keys[at] = keys.get(at, 0) + 1
    if sorted(part["queue"]) != list(range(len(part["items"]))):
      yield f"the queues hold {part['queue']}, and not each of {len(part['items'])} items once"
  wanted = {(request, head, key): 1 for request, length in enumerate(plan["kv_lens"])
            for head in range(2) for key in range(length)}
  if keys != wanted:
    yield f"the items do not cover every key of every head once: {keys}"
  if plan["work_units"] != sum(len(part["items"]) for part in plan["parts"]) or not plan["explain"]:
    yield "work_units or explain do not fit the items"


def broken(root, build, compiler, toolkit=None):
  """With a toolkit: tests/c_gpu. Raises Skipped where a program says that it can't run here."""
  sources = sorted((pathlib.Path(root).resolve() / "tests" / ("c_gpu" if toolkit else "c")).glob("*.c"))
  flags = ["-isystem", f"{toolkit}/include", f"-I{sources[0].parent.parent}/c"] if toolkit else []
  libraries = [f"-L{toolkit}/lib64", "-lcudart_static", "-ldl", "-lrt"] if toolkit else []
  with installed(build) as tree, tempfile.TemporaryDirectory() as folder:
    kinds = [static for static in (False, True) if (tree.static if static else tree.shared).is_file()]
    for source, static in itertools.product(sources, kinds):
      program = pathlib.Path(folder) / f"{source.stem}_{'static' if static else 'shared'}"
      links = [*tree.link_flags(static), *libraries, "-lm", "-pthread"]
      done = tree.run([*compiler, *STRICT, *tree.pkg_config("--cflags"), *flags, source, *links, "-o", program], cwd=folder)
      if done.returncode:
        yield f"{program.name} does not build:\n{done.stdout[:3000]}"
        continue
      done = tree.run([program], cwd=folder)
      if done.returncode == SKIPPED:
        raise Skipped(done.stdout)
      if done.returncode:
        yield f"{program.name} ends with {done.returncode}:\n{done.stdout[-3000:]}"
      if source.stem == "attention":
        yield from wrong_plan(next(line for line in done.stdout.splitlines() if line.startswith("plan "))[5:])
    if not kinds or not sources:
      yield "no library is installed, or there are no tests"


if __name__ == "__main__":
  toolkit = sys.argv[2] if sys.argv[1] == "--gpu" else None
  root, build, *compiler = sys.argv[3 if toolkit else 1:]
  try:
    sys.exit("\n".join(broken(root, build, compiler, toolkit)) or 0)
  except Skipped as reason:
    print(reason)
    sys.exit(SKIPPED)
