#!/usr/bin/env python3
"""Writes the mutants of one kernel (mutants.py) as one CUDA file, so that the kernels themselves stay clean.

  generate.py KERNEL SOURCE_ROOT OUT.cu DEPFILE    the unpatched control and every mutant, each in its own namespace
  ... --simulated                                  for a simulated GPU: gpu/ptx is what it puts in that place (simt/include)
  generate.py --check SOURCE_ROOT                  do all patches still fit? (needs no CUDA)

The kernel's file and the headers of gpu/ that it includes are written out in full for each mutant, inside of namespace
mutant_NAME, where names that are not found go on to the real flashladder. SHARED stays outside: types that the host's code
hands over, and host code. instances.cuh gives way to one_instance.cuh: one dtype, head_dim and variant, so that it compiles
quickly.
"""
import pathlib, re, sys

from mutants import KERNELS, MUTANTS, Mutant

SHARED = {"gpu/check.hpp", "gpu/launch.hpp", "gpu/device_buffer.hpp", "gpu/device_problem.hpp", "gpu/kv_pages.hpp",
          "gpu/device.hpp", "gpu/mla/mla.hpp", "gpu/rope/turns.hpp", "gpu/attention/attention_call.hpp",
          "gpu/attention/packed_plan.hpp", "gpu/attention/needs_general.hpp", "gpu/attention/rung_grid.hpp",
          "gpu/attention/merge_partials.hpp", "gpu/prefill/boxes.hpp", "gpu/prefill/compact_pages.hpp",
          "gpu/prefill/prefill.hpp", "gpu/prefill/rotated_copy.hpp", "gpu/rope/rope_params.hpp", "gpu/tensor_map.hpp"}
INSTEAD = {"gpu/decode/instances.cuh": "tests/gpu_mutants/one_instance.cuh",
           "gpu/prefill/instances.cuh": "tests/gpu_mutants/one_prefill_instance.cuh",
           "gpu/prefill/hopper_instances.cuh": "tests/gpu_mutants/one_hopper_instance.cuh",
           "gpu/mla/elements.cuh": "tests/gpu_mutants/one_latent_element.cuh",
           "gpu/attention/elements.cuh": "tests/gpu_mutants/one_element.cuh"}
PTX = "gpu/ptx/"
INCLUDE = re.compile(r'^#include (<[^>]+>|"([^"]+)")\n', re.M)
FALLBACK = ("namespace flashladder {\nusing namespace ::flashladder;\nnamespace gpu {\n"
            "using namespace ::flashladder::gpu;\n}\n}\n")


def header_of(file):
  return str(pathlib.PurePath(file).with_suffix(".hpp"))


class Sources:
  """The files under SOURCE_ROOT, as one mutant sees them."""

  def __init__(self, root, mutant, simulated=False):
    self.simulated = simulated
    self.root, self.mutant, self.outside, self.seen = pathlib.Path(root), mutant, [], set()
    # Of the kernel's files, those that this mutant does not touch are called as they are, in the library.
    *others, last = KERNELS[mutant.kernel].files
    patched = {file for file, _, _ in mutant.patches}
    self.files = [file for file in others if file in patched] + [last]
    self.shared = SHARED | {header_of(file) for file in others if file not in patched}

  def text(self, path):
    """The file, patched."""
    text = (self.root / path).read_text()
    for file, find, replacement in self.mutant.patches:
      if file != path:
        continue
      if text.count(find) != 1:
        sys.exit(f"tests/gpu_mutants/mutants.py: mutant {self.mutant.name} wants to find this once in {path}, but it is "
                 f"there {text.count(find)} times. The kernel has changed: change the mutant too.\n{find}")
      text = text.replace(find, replacement)
    return text

  def expand(self, path):
    """The file with its includes written out; what belongs outside of the mutant's namespace goes to self.outside."""
    if path in self.seen:
      return ""
    self.seen.add(path)

    def include(match):
      inner = match[2]
      if inner is None or inner in self.shared or inner.startswith(("core/", PTX) if self.simulated else "core/"):
        self.outside.append(match[1])
        return "\n"
      line_after = text.count("\n", 0, match.start()) + 2
      return self.expand(INSTEAD.get(inner, inner)) + f'#line {line_after} "{path}"\n'

    text = self.text(path).replace("#pragma once", "", 1)
    return f'#line 1 "{path}"\n' + INCLUDE.sub(include, text)

  def mutated(self):
    """Everything of the kernel, in the mutant's namespace."""
    body = "".join(self.expand(path) for path in self.files)
    kernel = KERNELS[self.mutant.kernel]
    body = body.replace("MUTANT_VARIANT", kernel.variant).replace("MUTANT_STORED", kernel.stored)
    body = body.replace("MUTANT_FRAGMENTS", str(kernel.fragments))
    for file, find, _ in self.mutant.patches:
      if file not in self.seen:
        sys.exit(f"tests/gpu_mutants/mutants.py: mutant {self.mutant.name} patches {file}, which its kernel does not "
                 "include")
    return f"namespace mutant_{self.mutant.name} {{\n{FALLBACK}{body}}}  // namespace mutant_{self.mutant.name}\n"


def of_kernel(kernel, simulated=False):
  control = Mutant(kernel + "_control", kernel, [], "nobody", "the kernel as it is")
  return [control] + [m for m in MUTANTS if m.kernel == kernel
                      and not (simulated and any(file.startswith(PTX) for file, _, _ in m.patches))]


def generate(kernel, root, simulated=False):
  """(text of the CUDA file, the files that it was made from)"""
  outside, bodies, rows, files = {}, [], [], set()
  for mutant in of_kernel(kernel, simulated):
    sources = Sources(root, mutant, simulated)
    bodies.append(sources.mutated())
    outside |= dict.fromkeys(sources.outside)
    files |= sources.seen
    entry = f"mutant_{mutant.name}::flashladder::gpu::{KERNELS[kernel].rung}::{KERNELS[kernel].entry}"
    rows.append(f'  {{"{mutant.name}", "{mutant.mistake}", Notice::{mutant.noticed_by}, as_mutant({entry})}},\n')
  table = (f"namespace flashladder::test {{\nstd::span<const GpuMutant> {kernel}_mutants() {{\n"
           f"static const GpuMutant all[] = {{\n{''.join(rows)}}};\nreturn all;\n}}\n}}\n")
  head = "// Written by tests/gpu_mutants/generate.py.\n"
  includes = "".join(f"#include {name}\n" for name in [*outside, '"tests/gpu_mutants/gpu_mutants.hpp"'])
  return head + includes + "".join(bodies) + table, files


def main(arguments):
  if arguments[0] == "--check":
    names = [m.name for m in MUTANTS]
    if len(set(names)) < len(names):
      sys.exit("tests/gpu_mutants/mutants.py: two mutants have one name")
    for kernel in KERNELS:
      generate(kernel, arguments[1]), generate(kernel, arguments[1], simulated=True)
    stale = Mutant("stale", "d5", [("gpu/decode/d5_tensor_cores.cu", "no such text", "")], "agree", "")
    try:
      Sources(arguments[1], stale).mutated()
      sys.exit("a patch that does not fit was taken")
    except SystemExit as refusal:
      assert "there 0 times" in str(refusal), refusal
    print(f"{len(MUTANTS)} patches fit")
    return
  kernel, root, out, depfile = arguments[:4]
  text, files = generate(kernel, root, simulated="--simulated" in arguments)
  pathlib.Path(out).write_text(text)
  pathlib.Path(depfile).write_text(f"{out}: " + " ".join(str(pathlib.Path(root) / file) for file in sorted(files)) + "\n")


if __name__ == "__main__":
  main(sys.argv[1:])
