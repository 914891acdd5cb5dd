"""Tests that were written for a GPU, on the CPU: tools/flashinfer_tests.py --cpu."""
ROOM = 8 << 30  # bytes that the tests may take


def on_the_cpu(torch):
  """A mode in which whatever is meant for cuda lies on the CPU."""
  import resource
  import types
  from torch.overrides import TorchFunctionMode
  with open("/proc/self/statm", encoding="ascii") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()  # torch alone may map gigabytes
  resource.setrlimit(resource.RLIMIT_AS, 2 * (taken + ROOM,))

  def moved(x):
    words = x.type if isinstance(x, torch.device) else x if isinstance(x, str) else ""
    return "cpu" if words.startswith("cuda") else x

  class Mode(TorchFunctionMode):
    def __torch_function__(self, function, kinds, arguments=(), names=None):
      names = {name: moved(x) if name == "device" else x for name, x in (names or {}).items()}
      if isinstance(names.get("device"), int):
        names["device"] = "cpu"
      arguments = tuple(moved(x) for x in arguments)
      if getattr(function, "__name__", "") in ("to", "cuda"):
        arguments = arguments[:1] + tuple("cpu" if type(x) is int else x for x in arguments[1:])
        if function.__name__ == "cuda":
          return arguments[0]
      return function(*arguments, **names)
  torch.cuda.synchronize = torch.cuda.set_device = lambda *arguments: None
  torch.cuda.current_device = torch.cuda.memory_reserved = torch.cuda.memory_allocated = lambda *arguments: 0
  torch.cuda.empty_cache = torch.cuda.manual_seed = torch.cuda.manual_seed_all = lambda *arguments: None
  torch.cuda.get_device_capability = lambda *arguments: (9, 0)
  made = torch.Generator.__new__
  torch.Generator = type("Generator", (torch.Generator,), {"__new__": lambda kind, device=None: made(kind)})
  properties = types.SimpleNamespace(name="the CPU", major=9, minor=0, total_memory=ROOM, multi_processor_count=1)
  torch.cuda.get_device_properties = lambda *arguments: properties
  return Mode()
