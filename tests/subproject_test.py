#!/usr/bin/env python3
"""A project that has FlashLadder as a Meson subproject gets the library alone: no program, no CLI11, JSON or doctest is
asked for, nothing is installed, and dependency('flashladder') is what its own program is built with.   subproject_test.py ROOT COMPILER..."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PROJECT = """project('user', 'cpp', default_options: ['cpp_std=c++20'])
executable('user', 'user.cpp', dependencies: dependency('flashladder', fallback: ['flashladder', 'flashladder_dep']))
"""
LIBRARY = {"core", "cpu_check", "planner", "reference", "gpu", "api", "capi"}
HEADERS = ["flashladder.hpp", "flashladder.h", "core/tensor.hpp"]
OF_PROGRAMS = {"nlohmann_json", "CLI11", "doctest"}


def main(root, *compiler):
  with tempfile.TemporaryDirectory() as folder:
    project, build = pathlib.Path(folder) / "user", pathlib.Path(folder) / "build"
    (project / "subprojects").mkdir(parents=True)
    (project / "meson.build").write_text(PROJECT)
    (project / "user.cpp").write_text("".join(f"#include <flashladder/{header}>\n" for header in HEADERS) + "int main() {}\n")
    (project / "subprojects" / "flashladder").symlink_to(root)
    setup = ["meson", "setup", str(build), str(project), "--wrap-mode=nodownload", "-Dflashladder:cuda=disabled"]
    done = subprocess.run(setup, env=os.environ | {"CXX": " ".join(compiler)}, capture_output=True, text=True)
    if done.returncode:
      return done.stdout[-3000:] + done.stderr
    introspect = lambda what: json.loads(subprocess.run(["meson", "introspect", str(build), what], check=True,
                                                        capture_output=True).stdout)
    targets, asked = ({thing["name"] for thing in introspect(what)} for what in ("--targets", "--dependencies"))
    if targets - {"user"} - LIBRARY or not {"user", "api"} <= targets:
      return f"targets: {sorted(targets)}"
    if asked & OF_PROGRAMS:
      return f"asked for {sorted(asked & OF_PROGRAMS)}"
    installs = introspect("--installed")
    if installs:
      return f"a subproject installs {sorted(installs)}"
    # The same includes as against the installed tree, and the source tree's beside them: one file each, nothing defined twice.
    commands = json.loads((build / "compile_commands.json").read_text())
    compile_user = next(c["command"] for c in commands if c["file"].endswith("user.cpp"))
    checked = subprocess.run(f"{compile_user} -fsyntax-only -include api/flashladder.hpp", shell=True, cwd=build,
                             capture_output=True, text=True)
    return checked.stderr if checked.returncode else 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
