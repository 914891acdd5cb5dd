#!/usr/bin/env python3
"""The CUDA templates of a plug-in compile with the commands that they show, without a register spill, and where there is a
GPU they pass at once.
   plugin_cuda_test.py SOURCE_ROOT BUILD NVCC ARCH        ARCH: as nvcc's -arch, where the templates say native
Exit 77 where they compiled and there is no GPU to run them."""
import pathlib
import re
import shutil
import sys
import tempfile

from installed import installed

SHAPES = {  # besides the case table
  "cuda_decode.cu": (["--kv", "0,1,17,300", "--heads", "8/2"], ["--kv", "33,64", "--dtype", "f32", "--block-table"]),
  "cuda_prefill.cu": (["--qo", "37,0,1,200", "--kv", "300,17,0,64", "--heads", "8/2", "--causal"],
                      ["--qo", "33", "--kv", "33,640", "--dim", "72", "--dtype", "f32", "--page", "5", "--block-table"],
                      ["--random", "40", "--seed", "3"]),
}


def tried(tree, root, build, nvcc, arch, template, folder):
  """What is wrong with the template: None if nothing, 77 if there is no GPU that runs it."""
  source = pathlib.Path(root) / "examples" / "plugins" / template
  shutil.copy(source, folder)
  shown = next(line for line in source.read_text().splitlines() if line.startswith("//   nvcc "))
  command = shown.removeprefix("//   nvcc").replace("-arch=native", f"-arch={arch}")
  done = tree.run(["bash", "-euc", f'"{nvcc}" -Xptxas -v {command}'], cwd=folder)
  if done.returncode:
    return f"{template} does not compile: {done.stdout}"
  spills = re.findall(r"(\d+) bytes spill", done.stdout)
  if not spills or any(int(bytes) for bytes in spills):
    return f"{template} spills registers, or ptxas does not say: {done.stdout}"
  program = pathlib.Path(build).resolve() / "cli" / "flashladder"
  for shape in ([], *SHAPES[template]):
    done = tree.run([program, "verify", "--plugin", "./mine.so", *shape], cwd=folder)
    print(done.stdout)
    if done.returncode:
      return 77 if done.returncode == 77 and "no CUDA device" in done.stdout else f"{template}: exit code {done.returncode}"
  return None


def main(root, build, nvcc, arch):
  found = []
  with installed(build) as tree:
    for template in SHAPES:
      with tempfile.TemporaryDirectory() as folder:
        found.append(tried(tree, root, build, nvcc, arch, template, folder))
  wrong = [what for what in found if what not in (None, 77)]
  return "\n".join(wrong) or (77 if 77 in found else 0)


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
