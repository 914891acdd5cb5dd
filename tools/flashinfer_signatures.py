#!/usr/bin/env python3
"""What FlashInfer's functions take: names and defaults, as JSON. tests/python/signatures_test.py compares ours with the
committed list.

   flashinfer_signatures.py FOLDER >tests/python/flashinfer_signatures.json

FOLDER holds FlashInfer's package, from an unpacked wheel (pip download flashinfer-python==0.7.2 --no-deps), which is read."""
import ast
import json
import pathlib
import sys

FILES = {"decode": "decode.py", "prefill": "prefill.py", "page": "page.py", "pod": "pod.py", "cascade": "cascade.py",
         "rope": "rope.py", "xqa": "xqa.py", "norm": "norm/__init__.py", "attention": "attention/_core.py",
         "mla": "mla/_core.py",
         "quantization": "quantization/packbits.py", "cudnn.decode": "cudnn/decode.py", "cudnn.prefill": "cudnn/prefill.py"}
METHODS = ("__init__", "plan", "run", "forward", "forward_return_lse", "begin_forward", "reset_workspace_buffer")
MISSING = "no default"


def default_of(node):
  if node is None:
    return MISSING
  try:
    return ast.literal_eval(node)
  except ValueError:
    return ast.unparse(node)


def signature(function):
  """[[name, default] ...]; keyword-only ones behind a "*"."""
  a = function.args
  names = [x.arg for x in (*a.posonlyargs, *a.args)]
  defaults = [None] * (len(names) - len(a.defaults)) + list(a.defaults)
  out = [[name, default_of(default)] for name, default in zip(names, defaults) if name != "self"]
  if a.vararg:
    out.append([f"*{a.vararg.arg}", MISSING])
  elif a.kwonlyargs:
    out.append(["*", MISSING])
  return out + [[x.arg, default_of(d)] for x, d in zip(a.kwonlyargs, a.kw_defaults)]


def main(folder):
  found = {}
  for module, file in FILES.items():
    for node in ast.parse((pathlib.Path(folder) / file).read_text()).body:
      name = f"{module.partition('.')[0]}.{getattr(node, 'name', '')}"
      if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        found[name] = signature(node)  # of overloads the last one, which is the function
      elif isinstance(node, ast.ClassDef):
        for method in node.body:
          if isinstance(method, ast.FunctionDef) and method.name in METHODS:
            found[f"{name}.{method.name}"] = signature(method)
  return found


def only_ours(found):
  """Those of names that flashladder.flashinfer has."""
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
  import importlib
  modules = {name: importlib.import_module(f"flashladder.flashinfer.{name}") for name in {n.split(".")[0] for n in found}}
  return {name: said for name, said in found.items() if name.split(".")[1] in modules[name.split(".")[0]].__all__}


if __name__ == "__main__":
  lines = [f"{json.dumps(name)}: {json.dumps(said)}" for name, said in sorted(only_ours(main(sys.argv[1])).items())]
  print("{" + ",\n ".join(lines) + "}")
