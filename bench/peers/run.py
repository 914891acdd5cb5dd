#!/usr/bin/env python3
"""Times FlashLadder and its peers on one GPU in turn, round by round, and joins the lines.

  run.py FLASHLADDER OUT_DIR [--families decode,prefill] [--cases TABLE.json] [--backends NAME,...] [--rounds 3]
  run.py FLASHLADDER OUT_DIR --script FILE --families graph,append,norm,rope,plan,mla,cascade,lengths
  run.py FLASHLADDER --list [--families ...] [--cases ...]     which peers are here, and who takes which case; needs no GPU

The peers of decode and prefill are torch's backends (flash, cuDNN, efficient, math), FlashInfer (tensor-core, cuda-core,
xqa, fa3, fa2, BatchAttention), cuDNN over block tables, FlashAttention 3 and 2: those that are installed; of the others it
says how to get them. The cases are those of `flashladder bench decode prefill --list`, or a case table
(docs/case_format.md), whose cases with one query a request are decode's. Each peer's output is compared with double on
sampled rows before it is timed. A peer that takes no pages is timed on contiguous K and V, under a case string that says
so. --peers FILE: the list PEERS of that Python file in the place of these (bench/peers/peer.py says what one is).

--script FILE: a Python file with a function for each of the other families, which times FlashInfer and calls its own
report(family, case, backend, us, ...) for each line; flashinfer_chain.py beside this file adds the chain, and serving.py is
such a file for mla, cascade, lengths and plan.

OUT_DIR gets lines.jsonl, in which ours and theirs stand under one machine's line, and table.md; ours.jsonl and peers.jsonl
are its parts. Each side has the GPU and its memory to itself: a round is one process of ours, which prepares and checks its
work before it times it, then one of theirs. Before the first round the peers run once without a clock, which compiles their
kernels. Exit code 77: there is no torch, or no GPU that it can use.
"""
import argparse, importlib.util, json, pathlib, subprocess, sys, time

from cases import Case, family_of
from peer import case_for, measure, missing_text

HERE = pathlib.Path(__file__).resolve().parent
ATTENTION = ("decode", "prefill")
SCRIPTED = ("graph", "append", "norm", "rope", "plan", "mla", "cascade", "lengths")
SKIPPED = 77


def module_of(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chosen_peers(args):
    files = [args.peers] if args.peers else [HERE / f"peers_{name}.py" for name in ("torch", "flashinfer", "flash_attn")]
    peers = [peer for file in files for peer in module_of(file).PEERS]
    names = [name.strip() for name in args.backends.split(",") if name.strip()]
    unknown = [name for name in names if not any(name in peer.name for peer in peers)]
    if unknown:
        sys.exit(f"--backends {unknown[0]}: is in no name of " + ", ".join(peer.name for peer in peers))
    return [peer for peer in peers if not names or any(name in peer.name for name in names)]


def list_of(args, families, table):
    """What our program would time, as JSON."""
    command = [args.flashladder, "bench", *families, "--list", "--json", *(["--cases", table] if table else [])]
    program = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if program.returncode != 0:
        sys.exit(program.stderr.strip() or f"{args.flashladder} bench --list: exit code {program.returncode}")
    return json.loads(program.stdout)


def listed(args, families):
    """The lines of --list of these families of attention; a table's cases are decode's or prefill's."""
    if not families:
        return []
    if not args.cases:
        return list_of(args, families, None)
    lines = [{**line, "family": family_of(line["shape"])} for line in list_of(args, ["decode"], args.cases)]
    return [line for line in lines if line["family"] in families]


def environment(args):
    """(how to make a case's tensors, the clock, what the machine's line says): of --peers its own, if it has them."""
    own = module_of(args.peers) if args.peers else None
    if hasattr(own, "environment"):
        return own.environment()
    import torch
    from clock import Clock
    from work import Work
    return Work, Clock(), dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda, torch=torch.__version__)


def why_no_gpu(args):
    """A sentence, or "" if there is a GPU for both sides."""
    if args.peers and hasattr(module_of(args.peers), "environment"):
        return ""
    try:
        import torch
    except ImportError:
        return "Nothing was timed: Python has no torch, by which the peers are called."
    return "" if torch.cuda.is_available() else "Nothing was timed: torch sees no CUDA GPU."


class Lines:
    """A file of lines that the rounds append to."""

    def __init__(self, path):
        self.out = open(path, "a", encoding="utf-8")

    def write(self, line):
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()


def attention_round(args, families, lines):
    peers, run = chosen_peers(args), args.peers_round
    make_work, clock, machine = environment(args)
    if run == 1:
        versions = dict(peer.version() for peer in peers if not peer.missing())
        absent = ", ".join(peer.name for peer in peers if peer.missing())
        date = dict(date=time.strftime("%Y-%m-%d"))
        lines.write(machine | versions | date | (dict(not_installed=absent) if absent else {}))
    say = lambda text: print("  " + text, flush=True)
    cases = [Case.of(line) for line in listed(args, families)]
    return 0 if measure(cases, peers, make_work, clock, lines.write, say, run) else 1


def peers_round(args, families):
    lines = Lines(args.out / "peers.jsonl")
    attention = [family for family in families if family in ATTENTION]
    code = attention_round(args, attention, lines) if attention else 0
    if scripted := [family for family in families if family in SCRIPTED]:
        if args.peers_round == 1 and not attention:
            lines.write(environment(args)[2] | dict(date=time.strftime("%Y-%m-%d")))
        from script import Script
        script = Script(module_of(args.script), lines, args.peers_round)
        for family in scripted:
            code = code if script.turn(script.calls(family)) else 1
    return code


def our_calls(args, families):
    """The arguments of our processes of a round: one for all, or with a table one for each of its families and the rest."""
    if not args.cases:
        return [families]
    calls = [[family for family in families if family not in ATTENTION]]
    for family in filter(ATTENTION.__contains__, families):
        shapes = [line["shape"] for line in listed(args, [family])]
        table = args.out / f"cases_{family}.json"
        table.write_text(json.dumps(shapes), encoding="utf-8")
        if shapes and list_of(args, [family], table):  # refused here, if at all, and not in the rounds
            calls.append([family, "--cases", str(table)])
    return [call for call in calls if call]


def our_round(args, calls, run):
    """Their lines go behind those of the rounds before. Returns the largest exit code."""
    codes = []
    for number, call in enumerate(calls):
        lines = args.out / f"ours_{run}_{number}.jsonl"
        rungs = ["--rung", args.rungs] if args.rungs and call[0] == "decode" else []
        command = [args.flashladder, "bench", *call, *rungs, "--run", str(run), "--jsonl", str(lines)]
        with open(args.out / f"ours_{run}_{number}.txt", "w", encoding="utf-8") as text:
            codes.append(subprocess.run(command, stdout=text).returncode)
        if lines.exists():
            first = run == 1 and number == 0  # one machine's line
            with open(args.out / "ours.jsonl", "a", encoding="utf-8") as out:
                out.writelines(lines.read_text(encoding="utf-8").splitlines(keepends=True)[0 if first else 1:])
    return max(codes)


def joined(ours, theirs):
    """All lines under one machine's line: ours, and what theirs adds."""
    sides = [[json.loads(line) for line in text.splitlines() if line.strip()] for text in (ours, theirs)]
    machine = {}
    for side in sides:
        for line in side:
            machine |= {} if "family" in line else {key: value for key, value in line.items() if key not in machine}
    return "".join(json.dumps(line) + "\n" for line in [machine, *(l for side in sides for l in side if "family" in l)])


def show_list(args, families):
    peers = chosen_peers(args)
    here = ", ".join(peer.name for peer in peers if not peer.missing())
    print("\n".join(filter(None, [f"here: {here}" if here else "", missing_text(peers)])) + "\n")
    for line in listed(args, [family for family in families if family in ATTENTION]):
        takers = [(peer, *case_for(peer, Case.of(line))) for peer in peers]
        on = [peer.name + (" (K and V contiguous)" if case.name != line["case"] else "") for peer, case, _ in takers if case]
        print(f"{line['family']} {line['case']}: {', '.join(on) or takers[0][2]}")
    return 0


def rounds(args, families):
    args.out.mkdir(parents=True, exist_ok=True)
    files = [args.out / name for name in ("ours.jsonl", "peers.jsonl")]
    for path in files:
        path.write_text("", encoding="utf-8")
    begin, calls = time.monotonic(), our_calls(args, families)
    say = lambda what: print(f"# {time.monotonic() - begin:5.0f} s  {what}", flush=True)
    theirs = lambda run: subprocess.run([sys.executable, __file__, *sys.argv[1:], "--peers-round", str(run)]).returncode
    codes = [theirs(0)]
    say("checked the peers, and compiled their kernels")
    for run in range(1, args.rounds + 1):
        codes.append(our_round(args, calls, run))
        say(f"round {run}, ours: {codes[-1]}")
        codes.append(theirs(run))
        say(f"round {run}, theirs: {codes[-1]}")
    lines = args.out / "lines.jsonl"
    lines.write_text(joined(*(path.read_text(encoding="utf-8") for path in files)), encoding="utf-8")
    text = subprocess.run([sys.executable, HERE / "table.py", "--compare", "--all", lines], text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text.split("\n\n| family | case | backend")[0])  # each line's own table is in the file
    return max(codes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flashladder")
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("--families", help="of " + ", ".join([*ATTENTION, *SCRIPTED]) + "; default: decode,prefill")
    parser.add_argument("--cases", type=pathlib.Path, help="a case table, for decode and prefill")
    parser.add_argument("--rungs", help="of ours, in family decode with a table of cases: D6,D7; default: D6")
    parser.add_argument("--backends", default="", help="parts of the names of the peers to take, such as FA3,fa2")
    parser.add_argument("--peers", help="a Python file with the list PEERS, in the place of the peers that are known here")
    parser.add_argument("--script", help="a Python file that times the families other than decode and prefill")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="who is here and takes which case; times nothing")
    parser.add_argument("--peers-round", type=int, help="only the peers' part of this round; 0 compiles")
    args = parser.parse_args()
    families = (args.families or ",".join(ATTENTION)).split(",")
    if unknown := [family for family in families if family not in (*ATTENTION, *SCRIPTED)]:
        parser.error(f"--families {unknown[0]}: is none of " + ", ".join([*ATTENTION, *SCRIPTED]))
    if not args.script and set(families) & set(SCRIPTED):
        parser.error("--families " + ",".join(families) + ": families other than decode and prefill need --script")
    if args.list:
        return show_list(args, families)
    if args.out is None:
        parser.error("OUT_DIR is missing")
    if args.peers_round is not None:
        return peers_round(args, families)
    if reason := why_no_gpu(args):
        print(f"{reason} run.py --list says which peers are here.\n{missing_text(chosen_peers(args))}")
        return SKIPPED
    if absent := missing_text(chosen_peers(args)):
        print(absent)
    return rounds(args, families)


if __name__ == "__main__":
    sys.exit(main())
