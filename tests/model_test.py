#!/usr/bin/env python3
"""examples/smollm2/ is a user's project: it is built by its own meson.build against the installed tree alone, in an empty
folder, and its tokens are those of the numpy model.
  model_test.py SOURCE_ROOT BUILD COMPILER...          on made-up weights (model.py --made-up): on the CPU in f32 and in f16,
                                                       with fewer slots than prompts, and on the GPU where there is one
  model_test.py --real SOURCE_ROOT BUILD COMPILER...   on the real weights, where $FLASHLADDER_MODEL is a file of them, or
                                                       ./climb --model has fetched them
At the end programs with a mistake must be found wrong. Exit 77, with the reason, without numpy or the real weights."""
import os
import pathlib
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree

from installed import installed

SKIPPED = 77
MUTANTS = {  # file, what stands there, what a mistake would be
    "RoPE turns neighbours instead of halves": ("model.cpp", "{.rope_theta = s.rope_theta}",
                                                "{.interleave = true, .rope_theta = s.rope_theta}"),
    "a decode step's token stands at the place of the one before": ("serving.cpp", "pool_.length(slot.request) - 1)",
                                                                    "pool_.length(slot.request) - 2)"),
    "a decode step reads another request's page": (
        "model.cpp", "decode_->plan(step.table.indptr, step.table.indices,",
        "auto wrong = step.table.indices;\n  std::swap(wrong.front(), wrong.back());\n"
        "  decode_->plan(step.table.indptr, wrong,"),
    "prompts see what comes after": ("model.cpp", "fl::MaskMode::causal", "fl::MaskMode::none"),
    "the wrong row of a prompt decides": ("serving.cpp", "step.qo_indptr.back() - 1)", "step.qo_indptr.back() - 2)")}


def build(tree, project, compiler, *options):
  done = None
  if not (project / "out").exists():
    done = tree.run(["env", "CXX=" + " ".join(compiler), "meson", "setup", "out", "-Dwerror=true", *options], cwd=project)
  if done is None or done.returncode == 0:
    done = tree.run(["ninja", "-C", "out"], cwd=project)
  return done.stdout[-3000:] if done.returncode else None


def wrong_picture(path):
  """Nothing, if the picture is XML in which every part of a step is named."""
  words = {text.text for text in xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}
  lost = {"matrices", "logits", "SiLU", "attention", "RoPE + append", "RMSNorm", "plan + launch"} - words
  return f"{path.name}: says nothing about {', '.join(sorted(lost))}" if lost else None


def broken_refusals(run, project):
  whole = (project / "model.safetensors").read_bytes()
  for name, content in {"damaged": whole[:-100], "long": (1 << 40).to_bytes(8, "little") + whole[8:], "short": whole[:7],
                        "f16": whole.replace(b'"F32"', b'"F16"', 1)}.items():
    (project / f"{name}.safetensors").write_bytes(content)
  for command, sentence in {"nothing.safetensors": "nothing.safetensors: No such file",
                            "--slots 0 model.safetensors": "--slots: must be 1 .. 64",
                            "model.safetensors --dtype f64": "--dtype = f64: must be f32 or f16", "": "must be given",
                            "damaged.safetensors": "its bytes must lie in the file",
                            "long.safetensors": "its header is longer than the file",
                            "short.safetensors": "is too short to be a safetensors file",
                            "f16.safetensors": "dtype F16: must be F32, I32 or U8"}.items():
    done = run(command)
    if done.returncode != 2 or sentence not in done.stdout:
      yield f"smollm2 {command}: exit code {done.returncode}, and not 2 with {sentence!r}: {done.stdout[-500:]}"


def broken_fetch(tree, script, project):
  """No registry answers: the script says so, leaves no file, and its exit code is that of a skipped test."""
  nowhere = ["PIP_INDEX_URL=http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL=", "PIP_RETRIES=0", "PIP_CONFIG_FILE=/dev/null"]
  done = tree.run(["env", *nowhere, sys.executable, script, project / "fetched" / "model.safetensors"], cwd=project)
  if done.returncode != SKIPPED or "skipped: the model's weights are not here, and pip can't fetch" not in done.stdout:
    yield f"model.py without a registry: exit code {done.returncode}, and not {SKIPPED}: {done.stdout[-500:]}"
  if (project / "fetched" / "model.safetensors").exists():
    yield "model.py without a registry writes a model"


def broken_runs(run, project, model, commands):
  for options in commands:
    done = run(f"{model} {options}")
    print(f"$ smollm2 {options}\n{done.stdout}")
    counts = re.search(r"^Tokens: (\d+) of (\d+) are numpy's$", done.stdout, re.M)
    if done.returncode or not counts or counts[1] != counts[2] or int(counts[1]) < 50:
      yield f"smollm2 {options}: exit code {done.returncode}, {counts and counts[0]}:\n{done.stdout[-2000:]}"
  if (wrong := wrong_picture(project / "model.svg")):
    yield wrong


def broken_mutants(tree, run, project, compiler):
  for what, (name, right, mistake) in MUTANTS.items():
    source = project / name
    text = source.read_text()
    if right not in text:
      yield f"{name} has no {right!r}, which the mutant {what!r} changes"
      continue
    source.write_text(text.replace(right, mistake))
    error = build(tree, project, compiler)
    done = None if error else run("model.safetensors --device cpu")
    source.write_text(text)
    if done is None or done.returncode != 1 or "DIFFERS" not in done.stdout:
      yield f"not found wrong: {what}: {error or done.stdout[-500:]}"


def broken(real, root, build_root, compiler):
  root = pathlib.Path(root).resolve()
  model = pathlib.Path(os.environ.get("FLASHLADDER_MODEL", root / "build" / "model" / "smollm2.safetensors")).resolve()
  if real and not model.is_file():
    print(f"skipped: no weights at {model}; ./climb --model fetches them")
    sys.exit(SKIPPED)
  with installed(build_root) as tree, tempfile.TemporaryDirectory() as folder:
    project = pathlib.Path(folder) / "smollm2"
    shutil.copytree(root / "examples" / "smollm2", project, ignore=shutil.ignore_patterns("out", "__pycache__"))
    if (error := build(tree, project, compiler, *([] if real else ["-Doptimization=1"]))):
      yield f"examples/smollm2 does not build: {error}"
      return
    run = lambda words: tree.run(["out/smollm2", *words.split()], cwd=project)
    if real:
      yield from broken_runs(run, project, model, ["--picture model.svg"])
      return
    script = root / "examples" / "smollm2" / "model.py"
    yield from broken_fetch(tree, script, project)
    made = tree.run([sys.executable, script, project / "model.safetensors", "--made-up"], cwd=project)
    print(made.stdout)
    if made.returncode == SKIPPED:
      sys.exit(SKIPPED)
    if made.returncode:
      yield f"model.py --made-up: exit code {made.returncode}: {made.stdout[-1000:]}"
      return
    yield from broken_runs(run, project, "model.safetensors", [
        "--picture model.svg", "", "--device cpu --dtype f16", "--device cpu --slots 1", "--device cpu --slots 3"])
    yield from broken_refusals(run, project)
    yield from broken_mutants(tree, run, project, compiler)


if __name__ == "__main__":
  real = sys.argv[1] == "--real"
  words = sys.argv[1 + real:]
  sys.exit("\n".join(broken(real, words[0], words[1], words[2:])) or 0)
