#!/usr/bin/env python3
"""Runs the GPU's test programs under compute-sanitizer: memcheck, racecheck, initcheck, synccheck; every kernel, small cases.

  tools/sanitize_gpu.py DIR [--log FILE] [--cases N] [--commit HASH]

DIR holds the programs, somewhere below: test_*gpu* of a build, or copies of them; no Meson, no compiler is needed. Each runs
N random cases (6 unless given), and not the whole case table. A finding in one of them fails; so does a mutant without a
barrier (test_gpu_mutants) that racecheck does not report. --log writes the table that is printed at the end.
"""
import argparse, datetime, os, pathlib, re, shutil, subprocess, sys, time

TOOLS = ["memcheck", "racecheck", "initcheck", "synccheck"]
SUMMARY = re.compile(r"========= (?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)")
MUST_REPORT = re.compile(r"^racecheck must report (\S+)", re.M)
MUTANTS = "test_gpu_mutants"
# Fills all of an SM's shared memory before a run; racecheck, which follows every byte of it, would see to little else.
UNWATCHED = ["--kernel-name-exclude", "kernel_substring=poison_kernel"]
# Hundreds of re-plans, graphs and copies; its kernels are the other programs', whom all tools watch.
MEMCHECK_ONLY = ["test_api_gpu"]


def output(*command):
  """What a command prints, or "" if it can't be run."""
  try:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
  except OSError:
    return ""


def run(sanitizer, tool, program, *arguments):
  """(findings or None if the sanitizer did not come to an end, what was printed, seconds)"""
  begin = time.monotonic()
  done = subprocess.run([sanitizer, "--tool", tool, *UNWATCHED, "--print-limit", "1000", program, *arguments],
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
  summary = SUMMARY.search(done.stdout)
  findings = int(summary[1] or summary[2]) if summary else None
  if findings == 0 and done.returncode != 0:  # the tests themselves failed, or were skipped
    findings = None
  return findings, done.stdout, time.monotonic() - begin


def clean(sanitizer, programs, cases):
  """Yields (good, row of the table) for each tool and program."""
  for program in programs:
    for tool in TOOLS if program.name not in MEMCHECK_ONLY else TOOLS[:1]:
      findings, text, seconds = run(sanitizer, tool, program, "--cases", str(cases), "--seed", "1", "-tce=*the case table*")
      if findings != 0:
        print("\n".join(text.splitlines()[-60:]))
      said = "did not finish well" if findings is None else f"{findings} errors"
      yield findings == 0, f"{tool:<10} {program.name:<20} {said}, {cases} cases, {seconds:.0f} s"


def mutants(sanitizer, program):
  """The same for the mutants that racecheck must report."""
  _, text, seconds = run(sanitizer, "racecheck", program, "-tc=*for racecheck*")
  reports = [line for line in text.splitlines() if line.startswith("=========")]
  names = MUST_REPORT.findall(text)
  if not names:
    print("\n".join(text.splitlines()[-60:]))
    yield False, f"racecheck  {program.name:<20} ran no mutant"
  for name in names:
    reported = any(name in line for line in reports)
    yield reported, f"racecheck  {name:<32} {'reported, as it must be' if reported else 'NOT REPORTED'}, {seconds:.0f} s for all"


def main():
  parser = argparse.ArgumentParser(usage=__doc__)
  parser.add_argument("dir", type=pathlib.Path)
  parser.add_argument("--log", type=pathlib.Path)
  parser.add_argument("--cases", type=int, default=6)
  parser.add_argument("--commit", default=output("git", "rev-parse", "--short", "HEAD") or "unknown")
  options = parser.parse_args()
  sanitizer = shutil.which("compute-sanitizer", path=os.environ["PATH"] + ":/usr/local/cuda/bin")
  if not sanitizer:
    sys.exit("compute-sanitizer is not here: it comes with the CUDA toolkit")
  programs = sorted(p for p in options.dir.rglob("test_*gpu*") if p.is_file() and os.access(p, os.X_OK))
  if not [p for p in programs if p.name != MUTANTS]:
    sys.exit(f"{options.dir} holds no test_*gpu* program")

  gpu = output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").replace(", ", ", driver ")
  version = re.search(r"Version (\S+)", output(sanitizer, "--version"))
  rows = [f"compute-sanitizer {version[1] if version else '?'}, {gpu.splitlines()[0] if gpu else 'unknown GPU'}, "
          f"commit {options.commit}, {datetime.date.today()}"]
  print(rows[0], flush=True)
  failed = 0
  checks = [clean(sanitizer, [p for p in programs if p.name != MUTANTS], options.cases)]
  checks += [mutants(sanitizer, p) for p in programs if p.name == MUTANTS]
  for check in checks:
    for good, row in check:
      failed += not good
      rows.append(row)
      print(row, flush=True)
  rows.append(f"{failed} of {len(rows) - 1} failed" if failed else "all as it must be")
  print(rows[-1])
  if options.log:
    options.log.write_text("\n".join(rows) + "\n")
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
