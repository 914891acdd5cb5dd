#!/usr/bin/env python3
"""The CUDA template of a plug-in compiles with the command that it shows, and where there is a GPU it passes at once, is
timed and climbs; plug-ins that misbehave on the GPU are reported by what they did.
   plugin_cuda_test.py SOURCE_ROOT BUILD NVCC ARCH        ARCH: as nvcc's -arch, where the template says native
Exit 77 where they compiled and there is no GPU to run them."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from installed import installed

DECODE = pathlib.Path(__file__).resolve().parent.parent / "data" / "smollm2_decode.safetensors"


SHAPES = [], ["--kv", "0,1,17,300", "--heads", "8/2"], ["--kv", "33,64", "--dtype", "f32", "--block-table"]
ONE_KEY = ["--kv", "1", "--heads", "1", "--dim", "8", "--dtype", "f32"]
ILL_BEHAVED = {"launches wrongly": "left a CUDA error behind", "writes to nowhere": "left a CUDA error behind",
               "writes behind o": "wrote out of bounds", "changes q": "modified an input", "leaves NaN": "left NaN",
               "leaks device memory": "leaked memory", "leaks a little": "leaked memory",
               "leaks host memory": "leaked memory", "nothing": ""}


def compiled(tree, folder, source, root, nvcc, arch):
  """What the compiler says, if it says no."""
  template = (root / "examples" / "plugins" / "cuda_decode.cu").read_text()
  shutil.copy(source, folder)
  shown = next(line for line in template.splitlines() if line.startswith("//   nvcc "))
  command = shown.removeprefix("//   nvcc").replace("-arch=native", f"-arch={arch}")
  command = command.replace("cuda_decode.cu", source.name).replace("mine.so", source.stem + ".so")
  done = tree.run(["bash", "-euc", f'"{nvcc}"{command}'], cwd=folder)
  return done.stdout if done.returncode else ""


def mistakes(tree, folder, program):
  """Of a machine with a GPU."""
  def run(*args):  # progress and what plug-ins print stay on stderr
    done = subprocess.run([program, *args], cwd=folder, env=tree.environment(), stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    return done

  for shape in SHAPES:
    if (code := run("verify", "--plugin", "./cuda_decode.so", *shape).returncode) != 0:
      yield f"verify {shape}: exit code {code}"
  done = run("bench", "decode", "--kv", "300x4", "--dim", "128", "--rung", "D6", "--rounds", "2", "--json",
             "--plugin", "./cuda_decode.so")
  backends = [l["backend"] for l in json.loads(done.stdout)["lines"] if l["family"] == "decode"]
  if done.returncode or backends != ["flashladder D6", "plug-in mine"] * 2:
    yield f"bench: exit code {done.returncode}, lines of {backends}"
  if run("climb", "--in", str(DECODE), "--plugin", "./cuda_decode.so").returncode:
    yield "climb failed"
  for which, kind in ILL_BEHAVED.items():
    os.environ["FLASHLADDER_TEST_PLUGIN"] = which
    kinds = {f["kind"] for f in json.loads(run("verify", "--plugin", "./ill_behaved.so", "--json", *ONE_KEY).stdout)
             ["plugins"][0]["failures"]}
    if kinds != ({kind} if kind else set()):
      yield f"{which}: reported as {kinds}, not {kind!r}"


def main(root, build, nvcc, arch):
  root = pathlib.Path(root)
  with installed(build) as tree, tempfile.TemporaryDirectory() as folder:
    for source in root / "examples" / "plugins" / "cuda_decode.cu", root / "tests" / "plugins" / "ill_behaved.cu":
      if said := compiled(tree, folder, source, root, nvcc, arch):
        return f"{source.name} does not compile: {said}"
    program = pathlib.Path(build).resolve() / "cli" / "flashladder"
    done = tree.run([program, "verify", "--plugin", "./ill_behaved.so", *ONE_KEY], cwd=folder)
    if done.returncode == 77 and "no CUDA device" in done.stdout:
      print(done.stdout)
      return 77
    return "\n".join(mistakes(tree, folder, program)) or 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
