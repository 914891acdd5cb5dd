#!/usr/bin/env python3
"""The CUDA template of a plug-in compiles with the command that it shows, and where there is a GPU it passes at once.
   plugin_cuda_test.py SOURCE_ROOT BUILD NVCC ARCH        ARCH: as nvcc's -arch, where the template says native
Exit 77 where it compiled and there is no GPU to run it."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

from installed import installed


def main(root, build, nvcc, arch):
  with installed(build) as tree, tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(root) / "examples" / "plugins" / "cuda_decode.cu"
    shutil.copy(source, folder)
    shown = next(line for line in source.read_text().splitlines() if line.startswith("//   nvcc "))
    command = shown.removeprefix("//   nvcc").replace("-arch=native", f"-arch={arch}")
    done = tree.run(["bash", "-euc", f'"{nvcc}"{command}'], cwd=folder)
    if done.returncode:
      return f"does not compile: {done.stdout}"
    program = pathlib.Path(build).resolve() / "cli" / "flashladder"
    for shape in ([], ["--kv", "0,1,17,300", "--heads", "8/2"], ["--kv", "33,64", "--dtype", "f32", "--block-table"]):
      done = tree.run([program, "verify", "--plugin", "./mine.so", *shape], cwd=folder)
      print(done.stdout)
      if done.returncode:
        return 77 if done.returncode == 77 and "no CUDA device" in done.stdout else f"exit code {done.returncode}"
  return 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
