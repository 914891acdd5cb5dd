#!/usr/bin/env python3
"""Checks the GPU's code on a machine that has a GPU and no compiler.

  carry_gpu.py pack BUILD FILE.tar.xz                  where it is built: builds what is needed in BUILD, strips and packs it
  carry_gpu.py check FOLDER [PART ...] [--log FILE]    where the GPU is: FOLDER is FILE.tar.xz, unpacked

BUILD is a folder that Meson configured, best for one GPU: meson setup build/carry -Dcpu=v3 -Dgpu_archs=90. The Python tests
and the tools are those of this checkout, so take that along as well. Parts, all of them in this order if none is named:
%s
A part that takes longer than its limit is ended, counts as failed, and the next one begins. --log FILE gets all that they
print. The last line is `N passed, N failed, N skipped`. Exit code 1: something failed, or nothing was run.
"""
import argparse, concurrent.futures, lzma, os, pathlib, re, shutil, signal, subprocess, sys, tarfile, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ("tests/test_gpu_ops", "tests/test_api_gpu", "tests/test_ladder_gpu", "tests/gpu_mutants/test_gpu_mutants",
            "cli/flashladder")
LIBRARY = "libflashladder.so"
# The programs hold the same kernels, each its own copy: a dictionary that reaches from one to the next packs them once.
PACKED = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 << 20}]
SKIPPED = 77
# part: (what it is, seconds, command; FOLDER stands for the folder)
PARTS = {
  "ops": ("append, norms, RoPE, merges, mask bits", 120, ["FOLDER/test_gpu_ops", "--cases", "6"]),
  "api": ("the public classes", 180, ["FOLDER/test_api_gpu"]),
  "ladder": ("every rung on the case table and random cases", 300, ["FOLDER/test_ladder_gpu"]),
  "mutants": ("kernels that are wrong, and must be rejected", 200, ["FOLDER/test_gpu_mutants"]),
  "python": ("tests/python", 300, None),
  "host": ("what a call from Python costs on the host", 120, [sys.executable, "TOOLS/python_overhead.py", "--cuda"]),
  "sanitizer": ("compute-sanitizer over the programs", 600, [sys.executable, "TOOLS/sanitize_gpu.py", "FOLDER"]),
}
BESIDE_EACH_OTHER = 4  # Python tests at once
NOT_FOR_A_GPU = {"abi_test", "docs_test", "wheel_test", "stubs_test", "pretend_gpu_test", "signatures_test", "examples_test"}


def ended(command, seconds, environment=None):
  """(ok, skipped, failed or out of time; what it printed; seconds)"""
  begin = time.monotonic()
  with tempfile.TemporaryFile("w+", errors="replace") as output:
    try:
      process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT,
                                 start_new_session=True)
    except OSError as error:
      return "failed", str(error), 0.0
    try:
      code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
      code = None
    output.seek(0)
    text = output.read()
  says = {0: "ok", SKIPPED: "skipped", None: "out of time"}.get(code, "failed")
  return says, text, time.monotonic() - begin


def last_word(text):
  """The line that sums up: doctest's, unittest's, or whatever comes last."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  cases = [line for line in lines if "test cases:" in line or re.match(r"Ran \d+ tests?", line)]
  return (cases or lines or ["printed nothing"])[-1][:100]


def python_tests(folder, seconds):
  """The tests of tests/python, several beside each other, in the form of ended()."""
  tests = sorted(path for path in (ROOT / "tests/python").glob("*_test.py") if path.stem not in NOT_FOR_A_GPU)
  environment = dict(os.environ, FLASHLADDER_LIBRARY=str(folder / LIBRARY), PYTHONDONTWRITEBYTECODE="1")
  with concurrent.futures.ThreadPoolExecutor(BESIDE_EACH_OTHER) as pool:
    run = lambda test: (test.stem, *ended([sys.executable, test], seconds, environment))
    yield from ((f"python {name}", *rest) for name, *rest in pool.map(run, tests))


def of_part(part, folder):
  """Yields (name, how it ended, what it printed, seconds)."""
  _, seconds, command = PARTS[part]
  if command is None:
    yield from python_tests(folder, seconds)
    return
  places = {"FOLDER": str(folder), "TOOLS": str(ROOT / "tools")}
  command = [re.sub("FOLDER|TOOLS", lambda place: places[place[0]], word) for word in command]
  environment = dict(os.environ, FLASHLADDER_LIBRARY=str(folder / LIBRARY))
  yield (part, *ended(command, seconds, environment))


def check(folder, parts, log):
  counts = {"ok": 0, "skipped": 0, "failed": 0}
  for part in parts:
    for name, says, text, seconds in of_part(part, folder):
      counts["failed" if says == "out of time" else says] += 1
      print(f"{says:<12} {name:<24} {seconds:6.1f} s   {last_word(text)}", flush=True)
      if says in ("failed", "out of time"):
        print("\n".join("  | " + line for line in text.splitlines()[-30:]), flush=True)
      if log:
        with open(log, "a") as file:
          file.write(f"==== {name}: {says}\n{text}\n")
  print(f"{counts['ok']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
  return 0 if counts["ok"] and not counts["failed"] else 1


def built_library(build):
  """The shared library's target, which has the version in its name."""
  targets = subprocess.run(["ninja", "-C", str(build), "-t", "targets", "all"], stdout=subprocess.PIPE, text=True).stdout
  found = re.search(rf"^(package/{re.escape(LIBRARY)}[.\d]*): \w+_LINKER$", targets, re.M)
  return found[1] if found else sys.exit(f"{build}: builds no shared library")


def pack(build, file):
  if not (build / "build.ninja").is_file():
    sys.exit(f"{build}: is no folder that Meson configured")
  wanted = {pathlib.Path(program).name: program for program in PROGRAMS} | {LIBRARY: built_library(build)}
  if subprocess.run(["ninja", "-C", str(build), *wanted.values()]).returncode != 0:
    return 1
  with tempfile.TemporaryDirectory(dir=build) as place:
    for name, program in wanted.items():
      copy = pathlib.Path(place) / name
      shutil.copy2(build / program, copy)
      subprocess.run(["strip", str(copy)], check=True)
    partial = f"{file}.partial"
    with lzma.open(partial, "wb", filters=PACKED) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
      for name in wanted:
        archive.add(pathlib.Path(place) / name, name)
    os.replace(partial, file)
  print(f"{file}: {os.path.getsize(file) / 1e6:.1f} MB")
  return 0


def selftest():
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    for name, lines in {"test_gpu_ops": "echo '[doctest] test cases: 3'; echo end", "test_api_gpu": "echo no; exit 1",
                        "test_ladder_gpu": "sleep 60", "test_gpu_mutants": "exit 77"}.items():
      (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
      (folder / name).chmod(0o755)
    what, _, command = PARTS["ladder"]
    PARTS["ladder"] = (what, 0.5, command)
    ways = {part: [says for _, says, _, _ in of_part(part, folder)] for part in ("ops", "api", "ladder", "mutants")}
    assert ways == {"ops": ["ok"], "api": ["failed"], "ladder": ["out of time"], "mutants": ["skipped"]}, ways
    assert last_word("[doctest] test cases: 3\nend\n") == "[doctest] test cases: 3"
    log = folder / "log"
    assert check(folder, ["ops", "mutants"], log) == 0 and "test cases: 3" in log.read_text()
    assert check(folder, ["ops", "api"], None) == 1
    assert check(folder, ["mutants"], None) == 1, "nothing was run"
    (folder / "test_gpu_ops").unlink()
    assert check(folder, ["ops"], None) == 1, "a program is missing"
  print("ok")
  return 0


def main():
  if sys.argv[1:] == ["--selftest"]:
    return selftest()
  listed = "\n".join(f"  {part:<10} {what}" for part, (what, _, _) in PARTS.items())
  parser = argparse.ArgumentParser(description=__doc__ % listed, formatter_class=argparse.RawDescriptionHelpFormatter,
                                   usage=argparse.SUPPRESS)
  modes = parser.add_subparsers(dest="mode", required=True)
  packing = modes.add_parser("pack")
  packing.add_argument("build", type=pathlib.Path)
  packing.add_argument("file")
  checking = modes.add_parser("check")
  checking.add_argument("folder", type=lambda path: pathlib.Path(path).resolve())
  checking.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
  checking.add_argument("--log")
  args = parser.parse_args()
  if args.mode == "pack":
    return pack(args.build, args.file)
  unknown = [part for part in args.parts if part not in PARTS]
  if unknown:
    parser.error(f"PART {unknown[0]}: is none of {', '.join(PARTS)}")
  if not args.folder.is_dir():
    parser.error(f"FOLDER {args.folder}: is no folder")
  return check(args.folder, args.parts or list(PARTS), args.log)


if __name__ == "__main__":
  sys.exit(main())
