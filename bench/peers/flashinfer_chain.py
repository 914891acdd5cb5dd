#!/usr/bin/env python3
"""FlashInfer's kernels in CUDA graphs, by its public Python API: what `flashladder bench graph` and `append` time beside
decode alone (needs torch and flashinfer, a GPU).

  flashinfer_chain.py [chain ops append] [--jsonl FILE]

chain   RMSNorm -> RoPE -> append -> decode, layer after layer in one graph, a cache a layer: 200 MB and 8 layers at least. A
        layer's output is the next one's input; q is the norm's output. Per layer.
ops     rmsnorm and fused_add_rmsnorm of 64 rows, RoPE of 64 tokens, in a graph of launches; cold rotates over memory.
append  RoPE on q and k, then append: two kernels, by events.
Each is compared with torch in float32 once. L2 flushed by reading before each sample; the median counts.
"""
import argparse, json, math, time
import torch
import flashinfer
from clock import Clock

DEV, HALF, HEADS, KV_HEADS, DIM, PAGE, HIDDEN = "cuda", torch.float16, 32, 8, 128, 16, 4096


def rotation(nbytes):
    """caches, turns: as bench/gpu_cases.cpp"""
    caches = max(2, min(64, math.ceil(200e6 / nbytes)))
    return caches, max(1, 20 // caches)


def randn(*shape):
    return torch.randn(*shape, device=DEV, dtype=HALF)


def cos_sin_cache(length=32768):
    angles = torch.arange(length, device=DEV, dtype=torch.float64)[:, None] * 10000.0 ** (
        -2 * torch.arange(DIM // 2, device=DEV, dtype=torch.float64) / DIM)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def rotated(x, cos_sin):
    """neox RoPE of x [n, heads, DIM] in float32; cos_sin [n, DIM]"""
    cos, sin = cos_sin[:, None, :DIM // 2], cos_sin[:, None, DIM // 2:]
    a, b = x.float().split(DIM // 2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def close(got, want, what):
    error = (got.float() - want.float()).abs().max().item()
    assert error < 2e-2 * max(1.0, want.float().abs().max().item()), (what, error)  # f16 all the way: a gross check


class Pages:
    """A page table, shuffled, and `count` caches of random numbers for it."""

    def __init__(self, batch, kv_len, count):
        pages = -(-kv_len // PAGE)
        self.indptr = torch.arange(batch + 1, dtype=torch.int32) * pages
        self.indices = torch.randperm(batch * pages).int().to(DEV)
        self.last = torch.full((batch,), kv_len - (pages - 1) * PAGE, dtype=torch.int32)
        self.device = (self.indices, self.indptr.to(DEV), self.last.to(DEV))
        self.caches = [randn(batch * pages, 2, PAGE, KV_HEADS, DIM) for _ in range(count)]

    def tokens(self, cache, request, which):
        """K (0) or V (1) of a request: [tokens, KV_HEADS, DIM]"""
        begin, end = self.indptr[request], self.indptr[request + 1]
        rows = cache[self.indices[begin:end].long(), which].reshape(-1, KV_HEADS, DIM)
        return rows[:(end - begin - 1) * PAGE + self.last[request]]


class Chain:
    def __init__(self, batch, kv_len):
        self.batch, self.kv_len = batch, kv_len
        self.nbytes = batch * kv_len * 2 * KV_HEADS * DIM * 2
        self.layers = max(8, rotation(self.nbytes)[0])
        self.pages = Pages(batch, kv_len, self.layers)
        self.x, self.weight, self.cache = randn(batch, HIDDEN), randn(HIDDEN), cos_sin_cache()
        self.q = [torch.empty_like(self.x) for _ in range(self.layers)]
        self.o = [torch.empty(batch, HEADS, DIM, device=DEV, dtype=HALF) for _ in range(self.layers)]
        self.k, self.v = ([randn(batch, KV_HEADS * DIM) for _ in range(self.layers)] for _ in range(2))
        self.position = torch.full((batch,), kv_len - 1, device=DEV, dtype=torch.int64)
        self.where = torch.arange(batch, device=DEV, dtype=torch.int32), self.position.int()
        indices, indptr, last = self.pages.device
        self.wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.zeros(128 << 20, dtype=torch.uint8, device=DEV), "NHD", use_cuda_graph=True, use_tensor_cores=True,
            paged_kv_indptr_buffer=indptr.clone(), paged_kv_indices_buffer=indices.clone(),
            paged_kv_last_page_len_buffer=last.clone())
        self.wrapper.plan(self.pages.indptr, indices, self.pages.last, HEADS, KV_HEADS, DIM, PAGE, q_data_type=HALF,
                          kv_data_type=HALF)

    def layer(self, l):
        indices, indptr, last = self.pages.device
        x = self.x if l == 0 else self.o[l - 1].view(self.batch, HIDDEN)
        flashinfer.rmsnorm(x, self.weight, out=self.q[l])
        flashinfer.apply_rope_with_cos_sin_cache_inplace(self.position, self.q[l], self.k[l], DIM, self.cache, True)
        heads = lambda t: t.view(self.batch, -1, DIM)
        k, v, cache = heads(self.k[l]), heads(self.v[l]), self.pages.caches[l]
        flashinfer.append_paged_kv_cache(k, v, *self.where, cache, indices, indptr, last)
        self.wrapper.run(heads(self.q[l]), cache, out=self.o[l])

    def check(self):
        k = self.k[0].clone()
        self.layer(0)
        cos_sin, cache = self.cache[self.position], self.pages.caches[0]
        q = torch.nn.functional.rms_norm(self.x.float(), (HIDDEN,), self.weight.float(), 1e-6).view(self.batch, HEADS, DIM)
        close(self.q[0].view(self.batch, HEADS, DIM), rotated(q, cos_sin), "q")
        for b in range(self.batch):
            keys, values = (self.pages.tokens(cache, b, which).float() for which in (0, 1))
            close(keys[-1], rotated(k.view(self.batch, KV_HEADS, DIM), cos_sin)[b], "key")
            assert torch.equal(values[-1], self.v[0].view(self.batch, KV_HEADS, DIM)[b].float())
            scores = torch.einsum("hgd,nhd->hgn", self.q[0][b].float().view(KV_HEADS, -1, DIM), keys) * DIM ** -0.5
            close(self.o[0][b], torch.einsum("hgn,nhd->hgd", scores.softmax(-1), values).reshape(HEADS, DIM), "o")


def chain(clock, report):
    for batch in (1, 8):
        for kv_len in (1024, 4096):
            c = Chain(batch, kv_len)
            c.check()
            calls = [lambda l=l: c.layer(l) for l in range(c.layers)] * max(1, 20 // c.layers)
            report("graph", f"chain B{batch} kv{kv_len} 32/8 p16 cold", clock.graph_us(calls), c.nbytes)


def ops(clock, report):
    rows, cache = 64, cos_sin_cache()
    weight, position = randn(HIDDEN), torch.randint(0, 32768, (rows,), device=DEV)

    def both(name, nbytes, make):
        places, turns = rotation(nbytes)
        calls = [make() for _ in range(places)]
        report("graph", name + " cold", clock.graph_us(calls * turns), nbytes)
        report("graph", name + " warm", clock.graph_us(calls[:1] * 20), nbytes)

    def norm():
        x, out = randn(rows, HIDDEN), torch.empty(rows, HIDDEN, device=DEV, dtype=HALF)
        return lambda: flashinfer.rmsnorm(x, weight, out=out)

    def fused():
        x, residual = randn(rows, HIDDEN), randn(rows, HIDDEN)
        return lambda: flashinfer.fused_add_rmsnorm(x, residual, weight)

    def rope():
        q, k = randn(rows, HEADS * DIM), randn(rows, KV_HEADS * DIM)
        return lambda: flashinfer.apply_rope_with_cos_sin_cache_inplace(position, q, k, DIM, cache, True)

    x, q, k = randn(rows, HIDDEN), randn(rows, HEADS * DIM), randn(rows, KV_HEADS * DIM)
    close(flashinfer.rmsnorm(x, weight), torch.nn.functional.rms_norm(x.float(), (HIDDEN,), weight.float(), 1e-6), "rmsnorm")
    want = rotated(q.view(rows, HEADS, DIM), cache[position])
    flashinfer.apply_rope_with_cos_sin_cache_inplace(position, q, k, DIM, cache, True)
    close(q.view(rows, HEADS, DIM), want, "rope")
    both(f"rmsnorm {rows}x{HIDDEN}", 2 * rows * HIDDEN * 2, norm)
    both(f"fused_add_rmsnorm {rows}x{HIDDEN}", 4 * rows * HIDDEN * 2, fused)
    both(f"rope {rows} tokens 32/8 neox", rows * (HEADS + KV_HEADS) * DIM * 2 * 2, rope)


def append(clock, report):
    cache = cos_sin_cache()
    for batch, each in ((64, 1), (16, 4096)):
        tokens, pages = batch * each, Pages(batch, each + 1024, 1)
        q, k, v = randn(tokens, HEADS * DIM), randn(tokens, KV_HEADS * DIM), randn(tokens, KV_HEADS * DIM)
        request = torch.arange(batch, device=DEV, dtype=torch.int32).repeat_interleave(each)
        position = torch.arange(1024, 1024 + each, device=DEV, dtype=torch.int32).repeat(batch)
        indices, indptr, last = pages.device
        long_position = position.long()

        def both():
            flashinfer.apply_rope_with_cos_sin_cache_inplace(long_position, q, k, DIM, cache, True)
            flashinfer.append_paged_kv_cache(k.view(tokens, KV_HEADS, DIM), v.view(tokens, KV_HEADS, DIM), request, position,
                                             pages.caches[0], indices, indptr, last)

        want = rotated(k.view(tokens, KV_HEADS, DIM), cache[long_position])[:each]
        both()
        close(pages.tokens(pages.caches[0], 0, 0)[1024:], want, "key")
        nbytes = tokens * (HEADS + 2 * KV_HEADS) * DIM * 2 * 2
        report("append", f"rope + append B{batch} x {each} tokens 32/8 p16", clock.median_us(both), nbytes,
               "FlashInfer, two kernels")


FAMILIES = {"chain": chain, "ops": ops, "append": append}


def reporter(write):
    """report(family, case, us, bytes, backend): a line of docs/case_format.md to write(dict)"""
    def report(family, case, us, nbytes, backend="FlashInfer"):
        rate = round(nbytes / us / 1e6, 3)
        write(dict(family=family, case=case, backend=backend, us=round(us, 2), TBps=rate, TFLOPs=None))
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="*", default=list(FAMILIES), help="of " + ", ".join(FAMILIES))
    parser.add_argument("--jsonl")
    args = parser.parse_args()
    torch.manual_seed(0)
    lines = [dict(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda, torch=torch.__version__,
                  flashinfer=flashinfer.__version__, date=time.strftime("%Y-%m-%d"))]
    clock = Clock()

    def write(line):
        lines.append(line)
        print(json.dumps(line), flush=True)

    for name in args.family:
        FAMILIES[name](clock, reporter(lambda line: write({**line, "run": 1})))
    if args.jsonl:
        with open(args.jsonl, "w") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
