#!/usr/bin/env python3
"""Tries the recipes of docs/profiling.md, out of the page itself.

  try_profiling.py [SOURCE_ROOT] [--build DIR] [--only TEXT] [--dry]     DIR: in the place of build/release
  try_profiling.py --selftest SOURCE_ROOT BUILD

On a machine with a GPU, ncu and nsys every block of shell code that calls a profiler is run, in an empty folder; a recipe
whose profiler finds no kernel fails. Before that, and everywhere, they run with stand-ins for both profilers
(profiler_stand_ins.py), which look for each filter among the names of the kernels that are compiled into DIR. Every kernel must
have a recipe.

Exit code 0: all is right; 1: a recipe is wrong; 77: right as far as can be said without a GPU, a profiler or the right to
read the GPU's counters. --dry: only the stand-ins, and then 0.
"""
import argparse, json, os, pathlib, re, shutil, subprocess, sys, tempfile, time

from profiler_stand_ins import PAGE, PROFILERS, SKIPPED

NEVER_LAUNCHED = {"device_probe_kernel"}  # only asked about
PROFILED = re.compile(r'==PROF== Profiling "(\w+)')
# With --csv there are no other lines: id, process, program, host, kernel.
CSV_LINE = re.compile(r'"\d+",(?:"[^"]*",){3}"[^"]*?(\w+_kernel)\b')
ASSIGNMENT = re.compile(r"\w+=\S")


def blocks(page):
  """[(where, shell code)] of the page's sh blocks; where is the bold text or the heading above."""
  found, where, code = [], "", None
  for line in page.splitlines():
    if code is not None:
      if line == "```":
        found.append((where, "\n".join(code)))
        code = None
      else:
        code.append(line)
    elif line == "```sh":
      code = []
    elif match := re.match(r"\*\*([^*]+)\*\*|##+ (.+)", line):
      where = (match[1] or match[2]).rstrip(".")
  return found


def recipes(page):
  """(what all begin with, [(where, shell code)] of those that call a profiler)"""
  shell = blocks(page)
  setup = [code for _, code in shell if all(ASSIGNMENT.match(line) for line in code.splitlines())]
  calls = re.compile(r"^\s*(\$NCU|ncu|nsys)\b", re.M)
  return "\n".join(setup), [(where, code) for where, code in shell if calls.search(code)]


def run_recipe(setup, code, build, folder, env, options="-euo"):
  """(exit code, output) of a recipe in `folder`."""
  text = f"{setup}\n{code}".replace("build/release", str(build))
  ran = subprocess.run(["bash", options, "pipefail", "-c", text], cwd=folder, env=env, text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, errors="replace")
  return ran.returncode, ran.stdout


def profiled(output):
  """The kernels that ncu says it has profiled."""
  return PROFILED.findall(output) or [m[1] for m in map(CSV_LINE.match, output.splitlines()) if m]


def judge(calls, rc, output):
  """Why a recipe that starts ncu so many times failed, or None. A program that --kill ended has any exit code."""
  if "No kernels were profiled" in output:
    return "a filter finds no kernel: no kernels were profiled"
  if calls > 0:
    found = len(profiled(output))
    return None if found >= calls else f"ncu was started {calls} times and profiled {found} kernels"
  return None if rc == 0 else f"exit code {rc}: no kernel matches the filter, or the program failed"


def rehearse(page, build, names, only=None):
  """With stand-ins. Returns (what is wrong, programs that are not built, how often each recipe starts ncu).
  only: a recipe's title; then nothing is said of kernels without a recipe."""
  setup, found = recipes(page)
  wrong = [] if found and setup else [f"{PAGE}: no recipe"]
  with tempfile.TemporaryDirectory() as folder:
    bin_, work, notes = (pathlib.Path(folder, name) for name in ("bin", "work", "notes"))
    bin_.mkdir(), work.mkdir(), notes.touch()
    for tool in PROFILERS:
      stand_in = f'"{sys.executable}" "{pathlib.Path(__file__).resolve().parent}/profiler_stand_ins.py"'
      (bin_ / tool).write_text(f'#!/bin/sh\nexec {stand_in} {tool} "$@"\n')
      (bin_ / tool).chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "TRY_PROFILING_NAMES": json.dumps(sorted(names)),
           "TRY_PROFILING_NOTES": str(notes)}
    noted, calls = [], {}
    for where, code in found:
      if only not in (None, where):
        continue
      rc, output = run_recipe(setup, code, build, work, env)
      all_noted = [json.loads(line) for line in notes.read_text().splitlines()]
      calls[where] = sum(what == "profiles" for what, _ in all_noted[len(noted):])
      noted = all_noted
      if rc != 0:
        said = [line for line in output.splitlines() if not line.startswith("==PROF==")]
        wrong.append("\n  ".join([f"{where}: exit code {rc}", *said[-4:]]))
  without = sorted(names - NEVER_LAUNCHED - {value for what, value in noted if what == "found"})
  wrong += [f"{PAGE}: {name} has no recipe: no filter of ncu finds it" for name in without if only is None]
  return wrong, sorted({value for what, value in noted if what == "not built"}), calls


def perform(page, build, only, calls, env):
  """With the real profilers. Returns (what is wrong, why some were not tried)."""
  setup, found = recipes(page)
  wrong, untried = [], set()
  for where, code in found:
    tool = "ncu" if calls[where] > 0 else "nsys"
    if only not in where:
      continue
    if shutil.which(tool, path=env["PATH"]) is None:
      untried.add(f"{tool} is not installed")
      continue
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      rc, output = run_recipe(setup, code, build, folder, env, "-uo" if tool == "ncu" else "-euo")
    if "ERR_NVGPUCTRPERM" in output:
      untried.add("this user may not read the GPU's counters (ERR_NVGPUCTRPERM)")
      continue
    why = judge(calls[where], rc, output)
    names = sorted(set(profiled(output)))
    print(f"{'FAIL' if why else 'ok'}  {time.monotonic() - begin:5.0f} s  {where}: {why or ', '.join(names)}", flush=True)
    if why:
      wrong.append(f"{where}: {why}\n  " + "\n  ".join(output.splitlines()[-12:]))
  return wrong, untried


def has_gpu():
  tool = shutil.which("nvidia-smi")
  return tool is not None and "GPU 0" in subprocess.run([tool, "-L"], text=True, capture_output=True).stdout


def main(arguments):
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("source_root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[1])
  parser.add_argument("--build", type=pathlib.Path)
  parser.add_argument("--only", default="", help="recipes whose title has this text")
  parser.add_argument("--dry", action="store_true", help="only the stand-ins")
  args = parser.parse_args(arguments)
  build = (args.build or args.source_root / "build/release").resolve()
  if not (build / "cli/flashladder").exists():
    return f"{build}/cli/flashladder is not there: ./climb builds build/release, or name another folder with --build"
  page, names = (args.source_root / PAGE).read_text(), kernel_names(args.source_root, build)
  wrong, not_built, calls = rehearse(page, build, names)
  verdict = "wrong" if wrong else "right"
  print(f"{len(recipes(page)[1])} recipes, {len(names)} kernels: filters and commands are {verdict}")
  for program in not_built:
    print(f"{program} is not built in {build}: whether its commands are understood was not tried")
  untried = set()
  if not args.dry and not wrong:
    if not has_gpu():
      untried.add("there is no GPU here")
    elif not_built:
      wrong.append(f"{', '.join(not_built)}: must be built first; {PAGE} says how")
    else:
      wrong, untried = perform(page, build, args.only, calls, dict(os.environ))
  for line in [*(f"skipped: {reason}, so recipes were not run" for reason in sorted(untried)), *wrong]:
    print(line)
  return 1 if wrong else SKIPPED if untried else 0


def kernel_names(root, build):
  """Of the compiled kernels; where none is compiled, of those that the sources declare."""
  sys.path.insert(0, str(pathlib.Path(root).resolve() / "tests"))
  import kernel_names as names
  return names.compiled(build) or {name for _, name in names.declared(root)}


def selftest(root, build):
  """The page as it is, and damaged; and real profilers that find nothing."""
  page, build = (pathlib.Path(root) / PAGE).read_text(), pathlib.Path(build).resolve()
  names = kernel_names(root, build)
  damaged = [("5. ", "regex:attention_merge", "regex:no_kernel", "finds no kernel"),
             ("The timeline", "timeline norm rmsnorm", "timeline norm rms_norm", "exit code 1"),
             ("1. ", "--section Occupancy", "--sektion Occupancy", "--sektion"),
             ("1. ", "--heads 32/8 --dim", "--hedas 32/8 --dim", "not 77"),
             ("11. ", "-tc='merge_state*'", "-tc='merge_all*'", "no such test case"),
             ("5. ", "--clock-control none", "--clock-control base", "--clock-control none"),
             ("3. ", "--import d5", "--import d6", "no recipe has"),
             (None, "regex:rope_elements", "regex:rope_rows", "rope_elements_kernel has no recipe")]
  tests_built = (build / "tests/test_gpu_ops").exists()
  for title, find, replacement, said in damaged:
    assert find in page, find
    if tests_built or not find.startswith("-tc"):
      only = title and next(where for where, _ in recipes(page)[1] if where.startswith(title))
      wrong, *_ = rehearse(page.replace(find, replacement), build, names, only)
      assert wrong and any(said in text for text in wrong), (find, wrong)
  assert rehearse("# no recipe\n", build, names)[0]
  recipe = ("**A**\n```sh\nNCU=\"ncu --clock-control none\"\n```\n**B**\n```sh\n$NCU x\n```\n**C**\n```sh\n"
            "nsys profile x | grep kernel\n```\n")
  of_csv = '"0","1","flashladder","localhost","void flashladder::gpu::d6::<unnamed>::decode_d6_kernel<int>(float)","1"'
  outcomes = {"==PROF== Profiling \"decode_d6_kernel\" - 0": (0, 0), of_csv: (0, 0), "==PROF== Profiling": (2, 0),
              '"ID","Process ID","Process Name","Host Name","Kernel Name"': (2, 0), "nothing": (2, 0),
              "==WARNING== No kernels were profiled.": (2, 0), "==ERROR== ERR_NVGPUCTRPERM, of a kernel": (0, 1)}
  for said, (wrong, untried) in outcomes.items():
    with tempfile.TemporaryDirectory() as folder:
      for tool in PROFILERS:
        pathlib.Path(folder, tool).write_text(f"#!/bin/sh\necho '{said}'\n")
        pathlib.Path(folder, tool).chmod(0o755)
      env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
      got = perform(recipe, build, "", {"B": 1, "C": 0}, env)
      assert (len(got[0]), len(got[1])) == (wrong, untried), (said, got)
  return 0


if __name__ == "__main__":
  if sys.argv[1:2] == ["--selftest"] and len(sys.argv) == 4:
    sys.exit(selftest(*sys.argv[2:]))
  sys.exit(main(sys.argv[1:]))
