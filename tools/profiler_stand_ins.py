"""Stands in for ncu or nsys where tools/try_profiling.py rehearses the recipes of docs/profiling.md.

  profiler_stand_ins.py ncu|nsys ARGUMENT ...     exit code 1 and a sentence: what the real one would not understand

It refuses options that it does not know, looks for each filter among the names in $TRY_PROFILING_NAMES (JSON), and starts our
program as if there were no GPU, which must understand its command. What it noted, a JSON line each, is appended to the file
$TRY_PROFILING_NOTES: ["profiles", filter], ["found", kernel], ["not built", program].
"""
import json, os, pathlib, re, shlex, subprocess, sys

PAGE = "docs/profiling.md"
SKIPPED = 77  # our programs' exit code where there is no GPU
PROFILERS = ("ncu", "nsys")
# Options of theirs that the page may use. With a value, and without.
VALUES = {"ncu": {"--clock-control", "--launch-count", "--launch-skip", "--kill", "--kernel-name", "--section", "--page",
                  "--metrics", "--import", "--import-source", "-o"},
          "nsys": {"--trace", "--cuda-graph-trace", "--force-overwrite", "-o", "--report", "--force-export"}}
FLAGS = {"ncu": {"--csv", "-f"}, "nsys": set()}


class Refused(Exception): ...


def split_options(tool, arguments):
  """(options, [(option, value)]), what follows: the profiled command, or a file)"""
  options, rest = [], list(arguments)
  while rest and rest[0].startswith("-"):
    name, has_value, value = rest.pop(0).partition("=")
    if name in FLAGS[tool] and not has_value:
      value = ""
    elif name not in VALUES[tool]:
      raise Refused(f"{tool} {name}: is no option that {PAGE} may use; is it right? Then add it to tools/profiler_stand_ins.py")
    elif not has_value:
      if not rest:
        raise Refused(f"{tool} {name}: has no value")
      value = rest.pop(0)
    options.append((name, value))
  return options, rest


def start_without_gpu(command, note):
  """Our program must understand its command; without a GPU it then says that there is none."""
  if not command:
    raise Refused("no program to profile")
  program = pathlib.Path(command[0])
  if not program.exists():
    return note("not built", program.name)
  hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
  a_test = program.name.startswith("test_")
  ran = subprocess.run([*command, *(["-ltc"] if a_test else [])], env=hidden, text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
  # a build without nvcc
  no_gpu_rungs = ran.returncode == 2 and re.search(r"is none of C0, [\w, ]+; ", ran.stdout)
  wrong = "filters: 0" in ran.stdout if a_test else ran.returncode != SKIPPED and not no_gpu_rungs
  if wrong or (a_test and ran.returncode != 0):
    raise Refused(f"{shlex.join(command)}: " + ("has no such test case" if a_test else
                                                f"exit code {ran.returncode}, not {SKIPPED}: {ran.stdout.strip()}"))


def stand_in_ncu(arguments, names, note):
  options, command = split_options("ncu", arguments)
  of = dict(options)
  if "--import" in of:
    if not pathlib.Path(of["--import"]).exists():
      raise Refused(f"ncu --import {of['--import']}: no recipe has written this file")
    return
  if of.get("--clock-control") != "none":
    raise Refused("ncu without --clock-control none")
  filter_ = of.get("--kernel-name", "")
  if not filter_.startswith("regex:"):
    raise Refused(f"ncu --kernel-name {filter_}: must be regex:...")
  matched = [name for name in names if re.search(filter_.removeprefix("regex:"), name)]
  if not matched:
    raise Refused(f"ncu --kernel-name {filter_}: finds no kernel that is compiled. No kernels were profiled.")
  start_without_gpu(command, note)
  note("profiles", filter_)
  for name in matched:
    note("found", name)
    print(f'==PROF== Profiling "{name}"')
  if "-o" in of:
    pathlib.Path(of["-o"] + ".ncu-rep").touch()


def stand_in_nsys(arguments, names, note):
  verb, *arguments = arguments or [""]
  options, rest = split_options("nsys", arguments)
  of = dict(options)
  if verb == "profile":
    start_without_gpu(rest, note)
    pathlib.Path(of["-o"] + ".nsys-rep").touch()
  elif verb == "stats":
    if len(rest) != 1 or not pathlib.Path(rest[0]).exists():
      raise Refused(f"nsys stats {shlex.join(rest)}: no recipe has written this file")
    print("\n".join(names))
  else:
    raise Refused(f"nsys {verb}: is neither profile nor stats")


def main(tool, arguments):
  names = json.loads(os.environ["TRY_PROFILING_NAMES"])

  def note(what, value):
    with open(os.environ["TRY_PROFILING_NOTES"], "a", encoding="utf-8") as notes:
      notes.write(json.dumps([what, value]) + "\n")

  try:
    {"ncu": stand_in_ncu, "nsys": stand_in_nsys}[tool](arguments, names, note)
  except Refused as refusal:
    return f"stand-in: {refusal}"


if __name__ == "__main__":
  sys.exit(main(sys.argv[1], sys.argv[2:]))
