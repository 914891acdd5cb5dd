#!/usr/bin/env python3
"""What `meson install` gives is what docs/use-it.md promises, and nothing else: headers, libraries, versions, exports; it
can be moved, installed anywhere, and uninstalled.   installed_tree_test.py SOURCE_ROOT BUILD FLASHLADDER COMPILER...
At the end a copy of the tree is damaged in one way after the other, and every damage must be noticed."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from installed import Tree, copy_of, installed, options_of, uninstall

INCLUDE = re.compile(r'^\s*#\s*include\s*"((?:api|capi|core)/[^"]+)"', re.M)
INSTALLED_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](flashladder/[^>"]+)', re.M)
ANY_OF_OURS = re.compile(r'^\s*#\s*include\s*[<"]((?:api|capi|core|planner|reference|gpu)/[^>"]+)', re.M)
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Werror", "-fsyntax-only"]
START_CHECK = b"this program was built for a CPU with"  # core/cpu_check.cpp: a library may not end its user's program
# The public headers, from which all others follow: they are included by these, or are not installed.
PUBLIC = ["api/flashladder.hpp", "capi/flashladder.h", "capi/operations.h", "capi/plugin.h", "capi/serving.h"]


def wanted_headers(root):
  found, todo = set(), list(PUBLIC)
  while todo:
    header = todo.pop()
    if header not in found:
      found.add(header)
      todo += INCLUDE.findall((root / header).read_text())
  return {f"core/{name}" if room == "core" else name for room, name in (header.split("/") for header in found)}


def wrong_headers(root, tree):
  wanted = wanted_headers(root)
  there = {str(path.relative_to(tree.header_dir)) for path in tree.header_dir.rglob("*") if path.is_file()}
  if wanted - there:
    yield f"not installed, although public headers include them: {sorted(wanted - there)} (package/meson.build has the list)"
  if there - wanted:
    yield f"installed, although no public header includes them: {sorted(there - wanted)} (package/meson.build has the list)"
  for name in sorted(there):
    text = (tree.header_dir / name).read_text()
    if ANY_OF_OURS.search(text):
      yield f"{name} includes {ANY_OF_OURS.search(text)[1]}, as only the source tree has it"
    for included in INSTALLED_INCLUDE.findall(text):
      if not (tree.include / included).is_file():
        yield f"{name} includes {included}, which is not installed"


def compile_errors(tree, compiler):
  """Every header alone, as a user with strict warnings includes it: C++20, and those in C as C11 and as old C++ too."""
  c = "gcc" if "clang" not in compiler[-1] else "clang"
  for path in sorted(tree.header_dir.rglob("*.h*")):
    as_c = [[c, "-std=c11", "-x", "c"], [*compiler, "-std=c++98", "-Wno-long-long", "-Wno-c++11-long-long", "-x", "c++"]]
    languages = ([] if path.suffix == ".hpp" else as_c) + [[*compiler, "-std=c++20", "-x", "c++"]]
    for language in languages:
      done = subprocess.run([*language, *STRICT, f"-I{tree.include}", "-"], capture_output=True, text=True,
                            input=f"#include <{path.relative_to(tree.include)}>\nextern int not_empty;\n")
      if done.returncode:
        yield f"{path.name} does not compile alone with {' '.join(language)}:\n{done.stderr[:1500]}"


def names_of_places(root, tree):
  """No text file says where we were built: the tree may be moved, and sent to others."""
  for path in tree.prefix.rglob("*"):
    if path.is_file() and path.suffix in (".h", ".hpp", ".pc", ".cmake"):
      for place in (str(root), str(tree.build), "/usr/local/include"):
        if place in path.read_text():
          yield f"{path.name} names {place}"


def exported(library):
  listed = subprocess.run(["nm", "-DC", "--defined-only", library], check=True, capture_output=True, text=True).stdout
  return [line.split(maxsplit=2)[2] for line in listed.splitlines()]


def wrong_exports(root, tree):
  """The C functions of the headers and of what is Python's alone, all and no others; of C++ what some installed header names,
  and nothing of the inside."""
  if not tree.shared.is_file():
    return
  headers = "".join((tree.header_dir / name).read_text() for name in ("flashladder.h", "serving.h", "operations.h"))
  headers += (root / "capi" / "python_run.h").read_text()  # which is not installed
  declared = set(re.findall(r"^(?!static)\w[\w* ]*\b(fl_\w+)\(", headers, re.M))
  symbols = exported(tree.shared)
  in_c = {symbol for symbol in symbols if symbol.startswith("fl_")}
  if in_c != declared:
    yield f"exported and not declared: {sorted(in_c - declared)}; declared and not exported: {sorted(declared - in_c)}"
  words = set(re.findall(r"\w+", "".join(path.read_text() for path in tree.header_dir.rglob("*.hpp"))))
  for symbol in symbols:
    name = re.sub(r"^(vtable|typeinfo|typeinfo name) for ", "", symbol).split("(")[0].split("[")[0]
    inside = not name.startswith(("fl_", "flashladder::")) or re.search(r"::(reference|planner|gpu|capi)::", symbol)
    if name not in in_c and (inside or re.search(r"\w+", name.split("::")[-1])[0] not in words):
      yield f"exported, and in no installed header: {symbol}"


def wrong_libraries(tree):
  asked_for = options_of(tree.build)["default_library"]
  for library, kind in ((tree.static, "static"), (tree.shared, "shared")):
    if not library.is_file():
      if asked_for in (kind, "both"):
        yield f"{library.name} is not installed, although default_library is {asked_for}"
      continue
    if START_CHECK in library.read_bytes():
      yield f"{library.name} has our programs' start-up check in it"
  if tree.static.is_file() and tree.static.read_bytes()[:8] != b"!<arch>\n":
    yield f"{tree.static.name} is thin: it points at object files that a user does not have"


def wrong_versions(tree, flashladder):
  said = {"flashladder --version": subprocess.run([flashladder, "--version"], check=True, capture_output=True,
                                                  text=True).stdout.split()[-1],
          "flashladder.pc": tree.pkg_config("--modversion")[0]}
  header = (tree.header_dir / "version.h").read_text()
  said["version.h"] = ".".join(re.search(rf"_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))
  said["CMake"] = re.search(r'PACKAGE_VERSION "([^"]+)"', next(tree.lib.rglob("*ConfigVersion.cmake")).read_text())[1]
  if tree.shared.is_file():
    said["libflashladder.so"] = tree.shared.resolve().name.split(".so.")[-1]
  if len(set(said.values())) != 1:
    yield f"not one version: {said}"


def problems(root, tree, flashladder, compiler, compiles=True):
  for check in (wrong_headers(root, tree), names_of_places(root, tree), wrong_exports(root, tree), wrong_libraries(tree),
                wrong_versions(tree, flashladder), compile_errors(tree, compiler) if compiles else ()):
    yield from check


def elsewhere(root, compiler):
  """Another prefix and libdir, of a configuration of the archive alone, without programs: where things would go, unbuilt."""
  with tempfile.TemporaryDirectory() as folder:
    build = pathlib.Path(folder) / "build"
    setup = ["meson", "setup", build, root, "--prefix=/opt/ladder", "--libdir=lib64", "--includedir=inc", "-Dcuda=disabled",
             "-Dprograms=disabled", "-Ddefault_library=static", "--wrap-mode=nofallback"]
    done = subprocess.run(setup, env=os.environ | {"CXX": " ".join(compiler)}, capture_output=True, text=True)
    if done.returncode:
      return [done.stdout[-2000:] + done.stderr]
    introspect = lambda what: subprocess.run(["meson", "introspect", build, what], check=True, capture_output=True,
                                             text=True).stdout
    asked = introspect("--dependencies")
    others = ("CLI11", "nlohmann_json", "doctest")
    found = [f"a library-only configuration asks for {name}" for name in others if name in asked]
    tree = Tree(build, "", options_of(build))
    listed = introspect("--installed")
    wanted = [tree.header_dir / "core" / "tensor.hpp", tree.lib / "libflashladder.a", tree.lib / "pkgconfig/flashladder.pc",
              tree.lib / "cmake/flashladder/flashladderConfig.cmake"]
    if "libflashladder.so" in listed:
      found.append("with default_library=static a shared library would be installed")
    libs = re.search(r"^Libs: (.*)$", (build / "package" / "flashladder.pc").read_text(), re.M)[1]
    if "-lstdc++" not in libs:
      found.append(f"where only the archive is installed, pkg-config must give what it needs without --static: {libs}")
    return found + [f"{path} would not be installed" for path in wanted if f'"{path}"' not in listed]


def damages(tree):
  """(what is done to it, a function that does it): each must be noticed."""
  header = tree.header_dir / "core" / "tensor.hpp"
  edit = lambda path, old, new: path.write_text(path.read_text().replace(old, new))
  yield "a header is missing", header.unlink
  yield "a header too many", lambda: (tree.header_dir / "core" / "swizzle.hpp").write_text("")
  yield "an include as in the source tree", lambda: edit(header, "<flashladder/core/half.hpp>", '"core/half.hpp"')
  yield "another version", lambda: edit(tree.header_dir / "version.h", "PATCH 0", "PATCH 1")
  yield "a function that is only declared", lambda: edit(tree.header_dir / "operations.h", "fl_rmsnorm(", "fl_rmsnorm2(")
  yield "a place", lambda: edit(header, "#pragma once", f"#pragma once  // {tree.build}")
  if tree.static.is_file():
    yield "a thin archive", lambda: tree.static.write_bytes(b"!<thin>\n")
    yield "the start-up check", lambda: tree.static.write_bytes(tree.static.read_bytes() + START_CHECK)


def main(root, build, flashladder, *compiler):
  root = pathlib.Path(root).resolve()
  with installed(build) as tree:
    found = list(problems(root, tree, flashladder, compiler)) + elsewhere(root, compiler)
    for i in range(len(list(damages(tree)))):
      with tempfile.TemporaryDirectory() as folder:
        moved = copy_of(tree, folder)
        what, damage = list(damages(moved))[i]
        damage()
        if not list(problems(root, moved, flashladder, compiler, compiles=False)):
          found.append(f"not noticed: {what}")
    done = uninstall(tree)
    left = [path for path in tree.prefix.rglob("*") if path.is_file() or path.is_symlink()]
    if done.returncode or left:
      found.append(f"after ninja uninstall: {[str(path) for path in left]} {done.stdout[-500:]}")
  return "\n".join(found) or 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
