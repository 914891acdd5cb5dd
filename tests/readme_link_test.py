#!/usr/bin/env python3
"""README's program, built and linked in an empty folder by README's own commands, prints what README says. The build folder
is this one instead of build/release, with the compiler of this build; libgpu.a and CUDA's runtime are put where README says.
Usage: readme_link_test.py SOURCE_ROOT BUILD_ROOT TOOLKIT_OR_EMPTY COMPILER..."""
import pathlib, re, subprocess, sys, tempfile


def commands(readme, source, build, toolkit, compiler):
  shell = next(block for block in re.findall(r"^```sh\n(.*?)^```$", readme, re.S | re.M) if "libapi.a" in block)
  shell = shell.replace("FL=/path/to/flashladder; B=$FL/build/release", f"FL={source}; B={build}")
  shell = shell.replace("g++", " ".join(compiler))
  if (build / "gpu" / "libgpu.a").is_file():
    shell = shell.replace("$B/core/libcore.a", "$B/gpu/libgpu.a $B/core/libcore.a")
    shell = shell.replace("-pthread", f"-pthread -L{toolkit}/lib64 -lcudart_static -ldl -lrt")
  return shell


def main(source, build, toolkit, *compiler):
  readme = (pathlib.Path(source) / "README.md").read_text()
  program = next(block for block in re.findall(r"^```cpp\n(.*?)^```$", readme, re.S | re.M) if "int main()" in block)
  shell = commands(readme, pathlib.Path(source), pathlib.Path(build), toolkit, compiler)
  with tempfile.TemporaryDirectory() as room:
    (pathlib.Path(room) / "mine.cpp").write_text(program)
    done = subprocess.run(["sh", "-ec", shell], cwd=room, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  said = re.search(r"^\./mine +# (.*)$", shell, re.M)[1]
  print(shell, done.stdout, sep="\n")
  return 0 if done.returncode == 0 and done.stdout.strip() == said else 1


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 4 else __doc__)
