#!/usr/bin/env python3
"""What the program of a user meets: no start-up check of ours in it, one version, and a sentence where C++20 is missing.
Usage: library_test.py ROOT FLASHLADDER EXAMPLE COMPILER..."""
import pathlib, subprocess, sys, tempfile

START_CHECK = b"this program was built for a CPU with"  # core/cpu_check.cpp; of x86-64 builds


def broken(root, flashladder, example, compiler):
  ours, users = (START_CHECK in pathlib.Path(program).read_bytes() for program in (flashladder, example))
  if users:
    yield f"{example} would be ended by our start-up check"
  if not ours and b"AVX2" in pathlib.Path(flashladder).read_bytes():
    yield f"{flashladder} has lost its start-up check"
  says = subprocess.run([flashladder, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
  strict = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror"]  # a user's warnings stay the user's
  with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder) / "user.cpp"
    source.write_text('#include "api/flashladder.hpp"\n'
                      "static_assert(FLASHLADDER_VERSION_MAJOR >= 0 && FLASHLADDER_VERSION_MINOR >= 0);\n"
                      f'static_assert(sizeof(FLASHLADDER_VERSION) == sizeof("{says}"));\n'
                      f'constexpr bool same(const char* a, const char* b) {{ return *a == *b && (!*a || same(a + 1, b + 1)); }}\n'
                      f'static_assert(same(FLASHLADDER_VERSION, "{says}"));\n')
    compile_as = lambda language: subprocess.run([*compiler, f"-std={language}", *strict, "-fsyntax-only", f"-I{root}", source],
                                                 capture_output=True, text=True)
    if (result := compile_as("c++20")).returncode != 0:
      yield f"a program with the version {says} does not compile: {result.stderr}"
    result = compile_as("c++17")
    if result.returncode == 0 or "FlashLadder needs C++20" not in result.stderr.split("error:")[1]:
      yield f"the first error under C++17 is not the one about C++20: {result.stderr[:400]}"


if __name__ == "__main__":
  sys.exit("\n".join(broken(*sys.argv[1:4], sys.argv[4:])) or 0)
