"""python -m flashladder.flashinfer script.py [arguments]: runs a script whose `import flashinfer` then means ours."""
import importlib
import importlib.util
import runpy
import sys

SUBMODULES = ("attention", "cascade", "cudnn", "decode", "mla", "norm", "page", "pod", "prefill", "quantization", "rope",
              "trtllm", "xqa")


def stand_in():
    """Makes `import flashinfer`, and its submodules, mean ours in this process."""
    ours = importlib.import_module("flashladder.flashinfer")
    sys.modules["flashinfer"] = ours
    for name in SUBMODULES:
        sys.modules[f"flashinfer.{name}"] = importlib.import_module(f"flashladder.flashinfer.{name}")
    return ours


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    stand_in()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
