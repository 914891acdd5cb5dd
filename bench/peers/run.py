#!/usr/bin/env python3
"""Times FlashLadder and FlashInfer on one GPU in turn, round by round, and joins the lines.

  run.py FLASHLADDER PEERS_SCRIPT OUT_DIR [--rounds 3] [--families decode,graph,append,norm,rope,plan] [--also xqa]

FLASHLADDER is the program, PEERS_SCRIPT a file with a function for each family (decode, graph, attn, norm, rope, append,
plan) that times FlashInfer and calls its own report(family, case, backend, us, ...) for each line; flashinfer_chain.py
beside this file adds the chain. OUT_DIR gets ours.jsonl, peers.jsonl and table.md. Needs torch, flashinfer, and nvcc for its
kernels.

Each side has the GPU and its memory to itself: a round is one process of ours, which prepares and checks its work before it
times it, then one of theirs. Before the first round the peers' functions run once without a clock, which compiles their
kernels.
"""
import argparse, importlib.util, json, pathlib, subprocess, sys, time, traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
THEIRS = {"decode": ["decode", "attn"], "graph": ["graph"], "append": ["append"], "norm": ["norm"], "rope": ["rope"],
          "plan": ["plan"]}


class Peers:
    """The peers' script as a module, with the globals that its main program sets; its lines go to a file, with their run."""

    def __init__(self, script, path, run):
        import torch
        spec = importlib.util.spec_from_file_location("peers_script", script)
        self.torch, self.script = torch, importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)
        torch.manual_seed(0)
        self.script.FLUSH = torch.ones(64 << 20, device="cuda")
        self.script.WS = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
        self.script.report = self.report
        import flashinfer, flashinfer_chain
        self.chain, self.clock = flashinfer_chain, flashinfer_chain.Clock()
        self.out, self.run = open(path, "a", encoding="utf-8"), run
        if run == 1:
            self.line(dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda, torch=torch.__version__,
                           flashinfer=flashinfer.__version__, date=time.strftime("%Y-%m-%d")))

    def line(self, values):
        self.out.write(json.dumps(values) + "\n")
        self.out.flush()

    def report(self, family, case, backend, us, nbytes=None, flops=None):
        if self.run:
            self.line(dict(family=family, case=case, backend=backend, us=round(us, 2),
                           TBps=round(nbytes / us / 1e6, 3) if nbytes else None,
                           TFLOPs=round(flops / us / 1e6, 1) if flops else None, run=self.run))

    def turn(self, family, also):
        self.torch._dynamo.reset()  # each round compiles as a fresh program would
        calls = [getattr(self.script, name) for name in THEIRS[family] + (also if family == "decode" else [])]
        mine = self.chain.reporter(lambda line: self.run and self.line({**line, "run": self.run}))
        calls += [lambda f=f: f(self.clock, mine) for f in
                  {"graph": (self.chain.chain, self.chain.ops), "append": (self.chain.append,)}.get(family, ())]
        for call in calls:
            try:
                call()
            except Exception:  # one peer that fails must not stop the others
                traceback.print_exc(limit=3)
        self.torch.cuda.synchronize()
        self.torch.cuda.empty_cache()  # its memory back, for ours

    def warm_up(self, family, also):
        """Everything once, without a clock: what is compiled, is compiled here."""
        once = lambda call: (call(), 1.0)[1]
        clock, self.script.median_us, self.clock.median_us = self.script.median_us, once, once
        self.turn(family, also)
        self.script.median_us = clock
        del self.clock.median_us  # the class's own again


def peers_round(args, families, also):
    peers = Peers(args.script, args.out / "peers.jsonl", args.peers_round)
    for family in families:
        (peers.turn if peers.run else peers.warm_up)(family, also)


def our_round(args, families, run):
    """One process; its lines go behind those of the rounds before. Returns its exit code."""
    lines = args.out / f"ours_{run}.jsonl"
    command = [args.flashladder, "bench", *families, "--run", str(run), "--jsonl", str(lines)]
    code = subprocess.run(command, stdout=open(args.out / f"ours_{run}.txt", "w")).returncode
    with open(args.out / "ours.jsonl", "a", encoding="utf-8") as out:
        out.writelines(lines.read_text().splitlines(keepends=True)[0 if run == 1 else 1:])  # one header
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flashladder")
    parser.add_argument("script")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--families", default=",".join(THEIRS))
    parser.add_argument("--also", default="", help="more functions of the script, beside decode: xqa")
    parser.add_argument("--peers-round", type=int, help="only the peers' part of this round; 0 compiles")
    args = parser.parse_args()
    families, also = args.families.split(","), [name for name in args.also.split(",") if name]
    if args.peers_round is not None:
        return peers_round(args, families, also)
    args.out.mkdir(parents=True, exist_ok=True)
    files = [str(args.out / name) for name in ("ours.jsonl", "peers.jsonl")]
    for name in files:
        pathlib.Path(name).unlink(missing_ok=True)
    begin = time.monotonic()
    say = lambda what: print(f"# {time.monotonic() - begin:5.0f} s  {what}", flush=True)
    theirs = lambda run: subprocess.run([sys.executable, __file__, *sys.argv[1:], "--peers-round", str(run)]).returncode
    codes = [theirs(0)]
    say("compiled the peers' kernels")
    for run in range(1, args.rounds + 1):
        codes.append(our_round(args, families, run))
        say(f"round {run}, ours: {codes[-1]}")
        codes.append(theirs(run))
        say(f"round {run}, theirs: {codes[-1]}")
    table = subprocess.run([sys.executable, HERE / "table.py", "--all", *files], text=True, stdout=subprocess.PIPE,
                           check=True).stdout
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table.split("\n\n")[1])
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
