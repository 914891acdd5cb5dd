#!/usr/bin/env python3
"""Compiles FlashInfer's kernels for a machine with a GPU, here, where there is none.

  compile_flashinfer.py FLASHLADDER SITE [--families decode,prefill] [--cases TABLE.json ...] [--backends NAME,...]
                        [--calls norm,rope,page,cascade,mla]

FlashInfer compiles a kernel when it first runs, which takes minutes of the GPU's machine. SITE is a folder with FlashInfer's
package (and torch somewhere on the path); nvcc is needed, a GPU is not. Each FlashInfer peer of run.py is led through its own
calls on tiny tensors of the cases, on a GPU that is only pretended, until it asks for a kernel: that one is compiled for
sm_90a and put into SITE, where FlashInfer looks for kernels that were compiled ahead. Take SITE to the GPU's machine, put it
on PYTHONPATH, and set FLASHINFER_DISABLE_JIT=1, which makes a kernel that is missing an error at once. --calls: kernels of
what is no peer of run.py; mla is fa3's, with 512 and 64 features in bf16 and f16.
"""
import argparse, dataclasses, os, pathlib, shutil, sys, tempfile, time

from cases import Case
from run import HERE, chosen_peers, listed

ARCHITECTURE = "9.0a"


class Asked(Exception):
    """FlashInfer wants this kernel."""

    def __init__(self, spec):
        super().__init__(spec.name)
        self.spec = spec


def on_the_host(make):
    """A function that makes a tensor, whatever memory it is told to take."""
    def made(*shape, **names):
        where = {"device": "cpu"} if "device" in names else {}
        return make(*shape, **{**names, **where, "pin_memory": False})
    return made


def pretend_a_gpu():
    import torch
    from types import SimpleNamespace
    properties = SimpleNamespace(major=9, minor=0, multi_processor_count=132, name="pretended", total_memory=80 << 30,
                                 shared_memory_per_multiprocessor=228 << 10, shared_memory_per_block_optin=227 << 10,
                                 L2_cache_size=50 << 20)
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.get_device_properties = lambda device=None: properties
    torch.cuda.current_stream = lambda device=None: SimpleNamespace(cuda_stream=0)
    for name in ("empty", "zeros"):
        setattr(torch, name, on_the_host(getattr(torch, name)))


def ask_instead_of_compiling():
    import flashinfer  # all of its modules
    from flashinfer.jit import core

    def ask(spec):
        raise Asked(spec)
    core.JitSpec.build_and_load = ask
    for name, module in list(sys.modules.items()):  # those that imported it have it under their own name
        if name.startswith("flashinfer.") and "get_compute_capability" in vars(module):
            module.get_compute_capability = lambda device: (9, 0)


def small(case):
    """The same kernel's work, with next to nothing to do."""
    few = slice(0, 2)
    kv_lens = tuple(min(n, 64) for n in case.kv_lens[few])
    qo_lens = tuple(min(n, m, 32) for n, m in zip(case.qo_lens[few], kv_lens))
    return dataclasses.replace(case, qo_lens=qo_lens, kv_lens=kv_lens)


def asked_by_peer(peer, case):
    """The kernel that a peer asks for, or why none."""
    from work import Work
    reason = case.why_not or peer.refuses(case)
    return reason or asked_by(lambda: peer.prepare(Work(small(case), "cpu"))())


def asked_by(call):
    try:
        call()
    except Asked as asked:
        return asked.spec
    except Exception as error:  # of whatever kind: the pretended GPU is not complete
        return f"{type(error).__name__}: {error}"
    return "it asked for no kernel"


def latent(dtype):
    import flashinfer, torch
    wrapper = flashinfer.mla.BatchMLAPagedAttentionWrapper(torch.zeros(1 << 20, dtype=torch.uint8), backend="fa3")
    one = torch.tensor([0, 1], dtype=torch.int32)
    wrapper.plan(one, one, one[:1], one[1:], 16, 512, 64, 16, False, 0.1, getattr(torch, dtype), getattr(torch, dtype))


def module(name):
    import importlib
    getattr(importlib.import_module(f"flashinfer.{name}"), f"get_{name}_module")()


CALLS = {**{name: [lambda name=name: module(name)] for name in ("norm", "rope", "page", "cascade")},
         "mla": [lambda: latent("bfloat16"), lambda: latent("float16")]}


def compiled(spec, site):
    target = site / "flashinfer/data/aot" / spec.name / f"{spec.name}.so"
    if target.exists():
        return "there"
    begin = time.monotonic()
    spec.build()
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(spec.jit_library_path, target.with_suffix(".partial"))
    os.replace(target.with_suffix(".partial"), target)
    return f"{time.monotonic() - begin:.0f} s, {target.stat().st_size / 1e6:.1f} MB"


def selftest():
    """Without FlashInfer and torch: who asks for what, and what is kept of a case."""
    from types import SimpleNamespace
    case = Case("prefill", "c", (4096, 3, 1), (8192, 2, 9), 32, 8, 128, 128, 16, "f16", True, 0.1, -1, 0.0)
    assert small(case).qo_lens == (32, 2) and small(case).kv_lens == (64, 2)
    sys.modules["work"] = SimpleNamespace(Work=lambda case, device: case)

    def prepare(work):
        raise Asked(SimpleNamespace(name="kernel"))
    asking = SimpleNamespace(refuses=lambda case: None, prepare=prepare)
    assert asked_by_peer(asking, case).name == "kernel"
    assert asked_by_peer(asking, dataclasses.replace(case, why_not="sinks")) == "sinks"
    assert asked_by(lambda: None) == "it asked for no kernel"
    assert asked_by(lambda: 1 // 0).startswith("ZeroDivisionError")
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "made.so"
        spec = SimpleNamespace(name="k", build=lambda: library.write_text("code"), jit_library_path=library)
        assert compiled(spec, pathlib.Path(folder)).endswith("MB")
        assert (pathlib.Path(folder) / "flashinfer/data/aot/k/k.so").read_text() == "code"
        assert compiled(spec, pathlib.Path(folder)) == "there"
    print("ok")


def main():
    if sys.argv[1:] == ["--selftest"]:
        return selftest()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flashladder")
    parser.add_argument("site", type=pathlib.Path)
    parser.add_argument("--families", default="decode,prefill")
    parser.add_argument("--cases", action="append", default=[])
    parser.add_argument("--backends", default="")
    parser.add_argument("--calls", default="")
    args = parser.parse_args()
    args.peers = HERE / "peers_flashinfer.py"
    peers, families = chosen_peers(args), args.families.split(",")
    of_table = lambda table: listed(argparse.Namespace(flashladder=args.flashladder, cases=table), families)
    cases = [Case.of(line) for table in args.cases or [None] for line in of_table(table)]
    os.environ.update(FLASHINFER_CUDA_ARCH_LIST=ARCHITECTURE, FLASHINFER_WORKSPACE_BASE=str(args.site.resolve() / "compiled"))
    sys.path.insert(0, str(args.site))
    pretend_a_gpu()
    ask_instead_of_compiling()
    asked = [(peer.name, case.name, asked_by_peer(peer, case)) for peer in peers for case in cases]
    asked += [(name, "", asked_by(call)) for name in args.calls.split(",") if name for call in CALLS[name]]
    for reason, case in {f"{who}: {what}": case for who, case, what in asked if isinstance(what, str)}.items():
        print(f"none for {reason} ({case})" if case else f"none for {reason}")
    for spec in {what.name: what for _, _, what in asked if not isinstance(what, str)}.values():
        print(f"{spec.name} ...", end=" ", flush=True)
        print(compiled(spec, args.site), flush=True)


if __name__ == "__main__":
    main()
