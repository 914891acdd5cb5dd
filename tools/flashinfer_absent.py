"""`import flashinfer` for FlashInfer's own tests: ours, and for what ours does not have something that skips a test which
calls it (tools/flashinfer_tests.py)."""
import importlib.abc
import importlib.machinery
import sys
import types


class Absent:
  """Something of FlashInfer's that has no place here: a test that calls it is skipped with its name."""

  def __init__(self, name):
    self.name = name

  def __getattr__(self, name):
    return Absent(f"{self.name}.{name}") if not name.startswith("__") else object.__getattribute__(self, name)

  def __call__(self, *arguments, **names):
    import pytest
    pytest.skip(f"needs {self.name}, which is not here")

  def __truediv__(self, other):
    return self  # of paths

  def __or__(self, other):
    return other  # of annotations: Absent | None

  __ror__ = __or__

  def __iter__(self):
    return iter(())

  def __contains__(self, x):
    return False

  def __getitem__(self, key):
    return Absent(f"{self.name}[{key!r}]")


def absent_attribute(name):
  def found(attribute):
    if attribute.startswith("__"):
      raise AttributeError(attribute)
    return Absent(f"{name}.{attribute}")
  return found


def absent_module(name):
  module = types.ModuleType(name)
  module.__path__, module.__getattr__ = [], absent_attribute(name)
  return module


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Modules of flashinfer that ours does not have."""

  def find_spec(self, name, path=None, target=None):
    return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith("flashinfer.") else None

  def create_module(self, spec):
    return absent_module(spec.name)

  def exec_module(self, module):
    pass


def stand_in(torch):
  """`import flashinfer` means ours, with what the tests' own machinery asks of flashinfer.utils and flashinfer.jit."""
  from flashladder.flashinfer.__main__ import stand_in as ours_for_theirs
  ours = ours_for_theirs()
  gpu = torch.cuda.is_available()
  capability = torch.cuda.get_device_capability() if gpu else (9, 0)
  utils = absent_module("flashinfer.utils")
  utils.get_compute_capability = lambda device=None: capability
  utils.has_flashinfer_jit_cache, utils.device_support_pdl = (lambda: True), (lambda device=None: capability[0] >= 9)
  utils.is_sm90a_supported = lambda device=None: capability[0] == 9
  jit = absent_module("flashinfer.jit")
  jit.MissingJITCacheError = type("MissingJITCacheError", (Exception,), {})
  for name, module in (("utils", utils), ("jit", jit)):
    sys.modules[f"flashinfer.{name}"] = module
    setattr(ours, name, module)
  for name, module in list(sys.modules.items()):
    if name == "flashinfer" or (name.startswith("flashinfer.") and name not in ("flashinfer.utils", "flashinfer.jit")):
      module.__dict__.update({"__getattr__": absent_attribute(name), "__path__": getattr(module, "__path__", [])})
  sys.meta_path.append(Finder())
  return ours
