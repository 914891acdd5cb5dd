"""Tests that were written for a GPU, on the CPU: tools/flashinfer_tests.py --cpu."""


def on_the_cpu(torch):
  """A mode in which whatever is meant for cuda lies on the CPU."""
  import resource
  from torch.overrides import TorchFunctionMode
  resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

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
  torch.cuda.current_device = lambda: 0
  torch.cuda.get_device_capability = lambda *arguments: (9, 0)
  return Mode()
