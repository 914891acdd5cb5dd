#!/usr/bin/env python3
"""The CUDA templates of a plug-in compile with the commands that they show, without a register spill, and where there is a
GPU they pass at once, and that of decode is timed and climbs; plug-ins that misbehave there are reported by what they did.
   plugin_cuda_test.py SOURCE_ROOT BUILD NVCC ARCH        ARCH: as nvcc's -arch, where the templates say native
Exit 77 where they compiled and there is no GPU to run them."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from installed import installed

DECODE = pathlib.Path(__file__).resolve().parent.parent / "data" / "smollm2_decode.safetensors"
SHAPES = {  # [] is the case table
  "cuda_decode": ([], ["--kv", "0,1,17,300", "--heads", "8/2"], ["--kv", "33,64", "--dtype", "f32", "--block-table"]),
  "cuda_prefill": ([], ["--qo", "37,0,1,200", "--kv", "300,17,0,64", "--heads", "8/2", "--causal"],
                   ["--qo", "33", "--kv", "33,640", "--dim", "72", "--dtype", "f32", "--page", "5", "--block-table"],
                   ["--random", "40", "--seed", "3"]),
}
ONE_KEY = ["--kv", "1", "--heads", "1", "--dim", "8", "--dtype", "f32"]
ILL_BEHAVED = {"launches wrongly": "left a CUDA error behind", "writes to nowhere": "left a CUDA error behind",
               "writes behind o": "wrote out of bounds", "changes q": "modified an input", "leaves NaN": "left NaN",
               "leaks device memory": "leaked memory", "leaks a little": "leaked memory",
               "leaks host memory": "leaked memory", "nothing": ""}


def compiled(tree, folder, source, root, nvcc, arch):
  """What the compiler says, if it says no; a template shows its own command, and spills no register."""
  shutil.copy(source, folder)
  template = source if source.stem in SHAPES else root / "examples" / "plugins" / "cuda_decode.cu"
  shown = next(line for line in template.read_text().splitlines() if line.startswith("//   nvcc "))
  command = shown.removeprefix("//   nvcc").replace("-arch=native", f"-arch={arch}")
  command = command.replace(template.name, source.name).replace("mine.so", source.stem + ".so")
  if template != source:  # whose runtime can be asked for the errors that it is left with
    command += f" -cudart shared -Xlinker -rpath,{pathlib.Path(nvcc).resolve().parents[1] / 'lib64'}"
  done = tree.run(["bash", "-euc", f'"{nvcc}" -Xptxas -v {command}'], cwd=folder)
  spills = re.findall(r"(\d+) bytes spill", done.stdout)
  return done.stdout if done.returncode or (template == source and set(spills) != {"0"}) else ""


def mistakes(tree, folder, program):
  """Of a machine with a GPU."""
  def run(*args):  # progress and what plug-ins print stay on stderr
    done = subprocess.run([program, *args], cwd=folder, env=tree.environment(), stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    return done

  for template, shapes in SHAPES.items():
    for shape in shapes:
      if (code := run("verify", "--plugin", f"./{template}.so", *shape).returncode) != 0:
        yield f"verify {template} {shape}: exit code {code}"
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
    templates = [root / "examples" / "plugins" / f"{template}.cu" for template in SHAPES]
    for source in *templates, root / "tests" / "plugins" / "ill_behaved.cu":
      if said := compiled(tree, folder, source, root, nvcc, arch):
        return f"{source.name} does not compile, or spills registers: {said}"
    program = pathlib.Path(build).resolve() / "cli" / "flashladder"
    done = tree.run([program, "verify", "--plugin", "./ill_behaved.so", *ONE_KEY], cwd=folder)
    if done.returncode == 77 and "no CUDA device" in done.stdout:
      print(done.stdout)
      return 77
    return "\n".join(mistakes(tree, folder, program)) or 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
