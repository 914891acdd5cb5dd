"""Families other than decode and prefill, by a Python file that times FlashInfer (run.py --script says what is in it)."""
import traceback

import torch
import flashinfer_chain


class Script:
    """The file as a module, with the globals that its main program sets; its lines get their run. Round 0 has no clock."""

    def __init__(self, module, lines, run):
        self.module, self.lines, self.run = module, lines, run
        torch.manual_seed(0)
        self.module.FLUSH = torch.ones(64 << 20, device="cuda")
        self.module.WS = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
        self.module.report = self.report
        self.clock = flashinfer_chain.Clock()
        if run == 0:
            once = lambda call: (call(), 1.0)[1]
            self.module.median_us, self.clock.median_us = once, once

    def write(self, line):
        if self.run > 0:
            self.lines.write({**line, "run": self.run})

    def report(self, family, case, backend, us, nbytes=None, flops=None):
        self.write(dict(family=family, case=case, backend=backend, us=round(us, 2),
                        TBps=round(nbytes / us / 1e6, 3) if nbytes else None,
                        TFLOPs=round(flops / us / 1e6, 1) if flops else None))

    def turn(self, family, names):
        torch._dynamo.reset()  # each round compiles as a fresh program would
        calls = [getattr(self.module, name) for name in names]
        mine = flashinfer_chain.reporter(self.write)
        more = {"graph": (flashinfer_chain.chain, flashinfer_chain.ops), "append": (flashinfer_chain.append,)}
        calls += [lambda f=f: f(self.clock, mine) for f in more.get(family, ())]
        for call in calls:
            try:
                call()
            except Exception:  # one peer that fails must not stop the others
                traceback.print_exc(limit=3)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
