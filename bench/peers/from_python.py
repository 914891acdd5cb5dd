#!/usr/bin/env python3
"""Times FlashLadder through Python beside FlashInfer: a script that times FlashInfer, run with ours in its place in turn.

  from_python.py SCRIPT LINES.jsonl [--families decode,prefill,plan] [--rounds 2] [--sides ours,theirs]

SCRIPT has a function for each family, which times what it imports as flashinfer and calls its own report(family, case,
backend, us, ...) for each line. A round calls each family's function with our package of FlashInfer's names, then with
FlashInfer's own. Round 0 has no clock: FlashInfer compiles its kernels there. So with --rounds 0 several processes can compile
for different families at once. Printed is what both sides have, from table.py. Exit code 1: ours failed in a family; 77: there
is no torch, or no GPU that it can use.
"""
import argparse, importlib, pathlib, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "python")]
FAMILIES = "decode prefill plan norm rope append graph attn fp8 mla".split()
SIDES = ("ours", "theirs")


class Side:
    """What `import flashinfer`, and its submodules, mean while a side has its turn."""

    def __init__(self, load):
        self.give_back()
        load()
        self.modules = self.give_back()

    def give_back(self):
        names = [name for name in sys.modules if name == "flashinfer" or name.startswith("flashinfer.")]
        return {name: sys.modules.pop(name) for name in names}

    def __enter__(self):
        sys.modules.update(self.modules)

    def __exit__(self, *raised):
        self.modules = self.give_back()  # with what was imported meanwhile


def sides_of(names):
    from flashladder.flashinfer.__main__ import stand_in
    loads = {"ours": stand_in, "theirs": lambda: importlib.import_module("flashinfer")}
    sides = {}
    for name in names:
        try:
            sides[name] = Side(loads[name])
        except ImportError as error:
            print(f"not here: {name}. {error}")
    return sides


def script_of(args, lines, run):
    """The script, which keeps lines of the side whose turn it is under that side's name."""
    from run import module_of
    from script import TimedFile

    class Script(TimedFile):
        side = "theirs"

        def named(self, backend):
            if self.side == "theirs":
                return backend
            if "FlashInfer" not in backend:  # neither's
                return None
            return backend.replace("FlashInfer", "flashladder from Python,").rstrip(",")

    return Script(module_of(args.script), lines, run)


def rounds(args, families):
    import torch
    from run import Lines
    lines, failed = Lines(args.lines), []
    sides = sides_of(args.sides.split(","))
    versions = {"flashinfer": getattr(sides["theirs"].modules["flashinfer"], "__version__", "?")} if "theirs" in sides else {}
    lines.write(dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda, torch=torch.__version__, **versions,
                     date=time.strftime("%Y-%m-%d")))
    begin = time.monotonic()
    for run in range(args.rounds + 1):
        script = script_of(args, lines, run)
        for family in families:
            for script.side, side in sides.items():
                with side:
                    if not script.turn([getattr(script.module, family)]) and script.side == "ours":
                        failed.append(f"ours failed in {family}, round {run}")
            print(f"# {time.monotonic() - begin:5.0f} s  round {run}, {family}", flush=True)
    print("\n".join(failed))
    return int(bool(failed))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", help="a Python file that times FlashInfer")
    parser.add_argument("lines", type=pathlib.Path, help="where the lines go, behind those that it has")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", default=",".join(SIDES))
    args = parser.parse_args()
    if unknown := [side for side in args.sides.split(",") if side not in SIDES]:
        parser.error(f"--sides {unknown[0]}: is none of " + ", ".join(SIDES))
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        print("Nothing was timed: torch is not installed, or has no GPU.")
        return 77
    code = rounds(args, args.families.split(","))
    import table
    print("\n".join(table.compared(table.Lines([args.lines.read_text(encoding="utf-8")]))))
    return code


if __name__ == "__main__":
    sys.exit(main())
