"""Families other than decode and prefill, by a Python file that times FlashInfer (run.py --script says what is in it)."""
import traceback

import torch


class TimedFile:
    """The file as a module, with the globals that its main program sets; its lines get their run. Round 0 has no clock."""

    def __init__(self, module, lines, run):
        self.module, self.lines, self.run = module, lines, run
        module.FLUSH = torch.ones(64 << 20, device="cuda")
        module.WS = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
        module.report = self.report
        if run == 0:
            module.median_us = self.once

    @staticmethod
    def once(call):
        call()
        return 1.0

    def named(self, backend):
        """The name under which a line of the file's is kept; None: it is not."""
        return backend

    def write(self, line):
        if self.run > 0:
            self.lines.write({**line, "run": self.run})

    def report(self, family, case, backend, us, nbytes=None, flops=None):
        if (name := self.named(backend)) is not None:
            self.write(dict(family=family, case=case, backend=name, us=round(us, 2),
                            TBps=round(nbytes / us / 1e6, 3) if nbytes else None,
                            TFLOPs=round(flops / us / 1e6, 1) if flops else None))

    def turn(self, calls):
        """Whether all calls came to their end."""
        torch.manual_seed(0)
        torch._dynamo.reset()  # each turn compiles as a fresh program would
        failed = False
        for call in calls:
            try:
                call()
            except Exception:  # one that fails must not stop the others
                traceback.print_exc(limit=4)
                failed = True
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return not failed and not getattr(self.module, "wrong", [])


class Script(TimedFile):
    """With the chain, whose clock is its own."""

    def __init__(self, module, lines, run):
        import flashinfer_chain
        super().__init__(module, lines, run)
        clock, mine = flashinfer_chain.Clock(), flashinfer_chain.reporter(self.write)
        if run == 0:
            clock.median_us = self.once
        more = {"graph": ("chain", "ops"), "append": ("append",)}
        self.chain = {family: [lambda f=getattr(flashinfer_chain, name): f(clock, mine) for name in names]
                      for family, names in more.items()}

    def calls(self, family):
        return [getattr(self.module, family)] + self.chain.get(family, [])
