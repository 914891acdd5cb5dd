#!/usr/bin/env python3
"""Does a profiler's filter find every kernel? docs/conventions.md, "Names", says how kernels are called.

  kernel_names.py SOURCE_ROOT [BUILD]      the sources of gpu/; with BUILD also what ptxas compiled (*.ptxas, gpu/compile.py)
  kernel_names.py --selftest

Importable: `declared(root)` and `compiled(build)` give the names, `problem(path, name)` what is wrong with one.
"""
import pathlib, re, sys, tempfile

# A folder of gpu/ and how its kernels' names begin (several words: a regular expression). A new folder gets its line here and in docs/conventions.md.
FAMILIES = {"attention": "attention", "decode": "decode", "prefill": "prefill", "plan": "plan", "merge": "merge", "mla": "mla",
            "norm": "(rms|layer)norm", "rope": "rope", "append": "append"}
COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.S)
RUNG = re.compile(r"([dlp]\d+)_\w+\.cuh?")
COMPILED = re.compile(r"Compiling entry function '(\w+)' for")


def kernels_of(text):
  """Names of the __global__ functions of a source."""
  text = COMMENT.sub(lambda m: m[0] if m[0].startswith('"') else "", text)
  for start in (match.end() for match in re.finditer(r"\b__global__\b", text)):
    depth, word = 0, ""
    for token in re.finditer(r"\w+|\(|\)|[^\s\w]", text[start:]):
      if token[0] == "(":
        if depth == 0 and not word.startswith("__"):  # __launch_bounds__( and its kind are attributes
          yield word
          break
        depth += 1
      elif token[0] == ")":
        depth -= 1
      elif depth == 0:
        word = token[0]


def declared(root):
  """[(path below gpu/, name)]"""
  gpu = pathlib.Path(root) / "gpu"
  files = sorted(path for ending in ("*.cu", "*.cuh") for path in gpu.rglob(ending))
  return [(path.relative_to(gpu), name) for path in files for name in kernels_of(path.read_text())]


def function_name(mangled):
  """The function's own name in a mangled one, without namespaces and template arguments; of extern "C" all of it."""
  if not mangled.startswith("_Z"):
    return mangled
  at, name = re.match(r"_ZN?", mangled).end(), mangled
  while digits := re.match(r"\d+", mangled[at:]):
    begin = at + digits.end()
    at = begin + int(digits[0])
    name = mangled[begin:at]
  return name


def compiled(build):
  """The names of the kernels that ptxas compiled for libgpu."""
  logs = pathlib.Path(build, "gpu").rglob("*.ptxas")
  return {function_name(name) for log in logs for name in COMPILED.findall(log.read_text())}


def problem(path, name):
  """What is wrong with the name of a kernel of gpu/PATH, or None."""
  if len(path.parts) > 1 and path.parts[0] not in FAMILIES:
    return f"folder gpu/{path.parts[0]} has no line in tests/kernel_names.py and docs/conventions.md"
  family = FAMILIES[path.parts[0]] if len(path.parts) > 1 else path.stem
  if rung := RUNG.fullmatch(path.name):
    return None if name == f"{family}_{rung[1]}_kernel" else f"must be {family}_{rung[1]}_kernel"
  return None if re.fullmatch(rf"{family}_(\w+_)?kernel", name) else f"must be {family}_..._kernel"


def main(root, build=None):
  found = declared(root)
  wrong = [f"gpu/{path}: {name}: {why}" for path, name in found if (why := problem(path, name))]
  if not found:
    wrong.append(f"no __global__ function under {root}/gpu")
  said = f"{len(found)} kernels in gpu/"
  if build:
    names = {name for _, name in found}
    built = compiled(build)
    wrong += [f"{build}: ptxas compiled {name}, which no source of gpu/ declares" for name in sorted(built - names)]
    if not built:
      wrong.append(f"no compiled kernel under {build}/gpu")
    said += f", {len(built)} of them compiled"
  print(said)
  return "\n".join(wrong) or 0


def selftest():
  source = ("// __global__ void commented();\ntemplate <class T>\n__global__ void __launch_bounds__(f(2) * 32, g<T>)\n"
            "decode_d3_kernel(const __grid_constant__ P p) {}\n__global__ void kernel(int x) { g(x); }\n")
  assert [*kernels_of(source)] == ["decode_d3_kernel", "kernel"], [*kernels_of(source)]
  assert function_name("_ZN11flashladder3gpu2d316decode_d3_kernelINS0_1SIfEEEEvT_") == "decode_d3_kernel"
  assert function_name("_Z6kerneli") == "kernel" and function_name("plain_kernel") == "plain_kernel"
  right = {"decode/d3_a.cu": "decode_d3_kernel", "prefill/p11_b.cu": "prefill_p11_kernel",
           "norm/norm.cu": "rmsnorm_row_kernel", "norm/layernorm.cu": "layernorm_row_kernel",
           "append/append.cu": "append_kernel", "traffic.cu": "traffic_read_kernel"}
  wrong = {"decode/d3_a.cu": ["kernel", "decode_d2_kernel", "d3_kernel", "decode_d3"], "norm/norm.cu": ["norm_row_kernel"],
           "prefill/compact_pages.cu": ["compact_kernel"], "traffic.cu": ["read_kernel"], "other/x.cu": ["other_kernel"]}
  for path, name in right.items():
    assert problem(pathlib.Path(path), name) is None, (path, name)
  for path, names in wrong.items():
    assert all(problem(pathlib.Path(path), name) for name in names), (path, names)
  with tempfile.TemporaryDirectory() as folder:
    assert "no __global__" in main(folder)
    gpu = pathlib.Path(folder, "gpu")
    gpu.mkdir()
    (gpu / "traffic.cu").write_text("__global__ void traffic_read_kernel() {}")
    assert main(folder) == 0 and "no compiled kernel" in main(folder, folder)
    (gpu / "a.ptxas").write_text("ptxas info : Compiling entry function '_ZN1a6kernelEv' for 'sm_90'")
    assert "ptxas compiled kernel, which no source" in main(folder, folder)
  return 0


if __name__ == "__main__":
  if sys.argv[1:] == ["--selftest"]:
    sys.exit(selftest())
  if not 2 <= len(sys.argv) <= 3 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
  sys.exit(main(*sys.argv[1:]))
