"""Latent attention, shared prefixes, lengths on the device and plans of mixed batches by FlashInfer, FlashAttention-3 and
FlashMLA: a file for `run.py --script`, with a function for each of the families mla, cascade, lengths and plan. Its case
strings are those of `flashladder bench`, each output is compared with double on sampled rows before it is timed, and what is
not installed is left out."""
import functools, os, random, re, time

from peers_flash_attn import VLLM_OPERATOR

FLASHMLA_OPERATOR = "_flashmla_C.abi3.so"
MLA = ["B128 kv4096 h16", "B128 kv4096 h64", "B128 kv4096 h128", "B16 kv8192 h128", "B64 lognormal h16", "B64 lognormal h64",
       "B1 kv8192 h128", "B1 kv16384 h16", "B32 kv8192 h16 q4"]
CASCADE = ["prefix 8192 shared by 64 + suffix 256 32/8 p16", "prefix 8192 shared by 4 + suffix 256 32/8 p16",
           "prefix 512 shared by 64 + suffix 2048 32/8 p16"]
PLAN = ["B32 kv2048 32/8 p16", "B64 lognormal 32/8 p16", "B64 S lognormal 32/8 p16 causal",
        "4 x q512 + 60 x q1 kv4096 32/8 p16 causal"]
LENGTHS = ["B32 kv2048 32/8 p16", "B64 lognormal 32/8 p16", "B64 lognormal 32/8 p16 table 131072",
           "B4 S2048 32/8 p16 causal", "B8 q512 kv16384 32/8 p16 causal"]
CKV, KPE, PAGE, SM_SCALE = 512, 64, 64, 192 ** -0.5
ROWS, MOST = 24, 16 * 2.0 ** -11  # rows that are compared, and how far off one may be: 16 roundings of f16
report = None  # run.py's
wrong = []     # (case, peer) of this process


def lognormal64():
    """As bench/gpu_lengths.hpp."""
    drawn = random.Random(1)
    return [min(32768, max(16, int(drawn.lognormvariate(6.9, 1.3)))) for _ in range(64)]


def lengths_of(name):
    """(qo_lens, kv_lens) of a case string"""
    if mixed := re.match(r"(\d+) x q(\d+) \+ (\d+) x q1 kv(\d+)", name):
        chunks, queries, decodes, keys = map(int, mixed.groups())
        return [queries] * chunks + [1] * decodes, [keys] * (chunks + decodes)
    uniform = re.match(r"B(\d+) (?:q\d+ )?(?:kv|S)(\d+)", name)
    kv_lens = [int(uniform[2])] * int(uniform[1]) if uniform else lognormal64()
    queries = re.search(r" q(\d+)", name)
    return (kv_lens if re.search(r" S\d* ?", name) else [int(queries[1]) if queries else 1] * len(kv_lens)), kv_lens


@functools.cache
def clock():
    from clock import Clock
    return Clock()


def median_us(call):  # run.py has another in its place while it warms up
    return clock().median_us(call)


def timed(family, case, name, prepare, wanted, nbytes, flops=None):
    """prepare() gives the call, whose o [nnz_qo, heads, dim] is compared first. A peer that fails or is wrong has no line."""
    try:
        call = prepare()
        o = call()
        for (row, head), want in wanted:
            off = ((o[row, head].double() - want).norm() / want.norm()).item()
            if not off <= MOST:  # NaN too
                wrong.append((case, name))
                print(f"  {case}: {name} is WRONG and not timed: row {row} head {head} is off by {off:.2g} of its size")
                return
        report(family, case, name, median_us(call), nbytes, flops)
    except Exception as error:  # of one peer, which must not stop the others
        print(f"  {case}: {name} failed: {type(error).__name__}: {(str(error).splitlines() or ['-'])[0][:160]}", flush=True)


class Latents:
    """q_nope [nnz, heads, 512], q_pe [nnz, heads, 64] and latent rows [pages, 64, 576] on shuffled pages."""

    def __init__(self, case):
        import torch
        from work import indptr
        self.heads = int(re.search(r" h(\d+)", case)[1])
        self.qo_lens, self.kv_lens = lengths_of(case)
        torch.manual_seed(1)
        rand = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.float16)
        self.q = rand(sum(self.qo_lens), self.heads, CKV + KPE)
        pages = [-(-n // PAGE) for n in self.kv_lens]
        self.kv, self.ids = rand(sum(pages), PAGE, CKV + KPE), torch.randperm(sum(pages)).int().cuda()
        self.qo_indptr, self.kv_indptr = indptr(self.qo_lens), indptr(pages)
        self.table = torch.zeros(len(pages), max(pages), dtype=torch.int32, device="cuda")
        for b, count in enumerate(pages):
            self.table[b, :count] = self.ids[self.kv_indptr[b]:self.kv_indptr[b] + count]
        self.lens = torch.tensor(self.kv_lens, dtype=torch.int32, device="cuda")
        self.nbytes = sum(self.kv_lens) * (CKV + KPE) * 2
        pairs = sum(k - q + 1 + i for q, k in zip(self.qo_lens, self.kv_lens) for i in range(q))
        self.flops = 2 * (2 * CKV + KPE) * self.heads * pairs

    def wanted(self):
        import torch
        drawn = random.Random(11)
        for _ in range(ROWS):
            b, head = drawn.randrange(len(self.kv_lens)), drawn.randrange(self.heads)
            i = drawn.randrange(self.qo_lens[b])
            row, seen = int(self.qo_indptr[b]) + i, self.kv_lens[b] - self.qo_lens[b] + i + 1
            rows = self.kv[self.ids[self.kv_indptr[b]:self.kv_indptr[b + 1]].long()].flatten(0, 1)[:seen].double()
            yield (row, head), torch.softmax(rows @ self.q[row, head].double() * SM_SCALE, 0) @ rows[:, :CKV]

    def flashinfer(self, backend):
        import flashinfer, torch
        wrapper = flashinfer.mla.BatchMLAPagedAttentionWrapper(
            torch.zeros(512 << 20, dtype=torch.uint8, device="cuda"), backend=backend)
        wrapper.plan(self.qo_indptr, self.kv_indptr, self.ids, self.lens.cpu(), self.heads, CKV, KPE, PAGE,
                     max(self.qo_lens) > 1, SM_SCALE, torch.float16, torch.float16)
        parts = [x.contiguous() for x in (*self.q.split([CKV, KPE], -1), *self.kv.split([CKV, KPE], -1))]
        return lambda: wrapper.run(*parts)

    def fa3(self):
        import torch
        none, max_q, max_k = None, max(self.qo_lens), max(self.kv_lens)
        kpe, ckv = (x[:, :, None].contiguous() for x in reversed(self.kv.split([CKV, KPE], -1)))
        q_ckv, q_kpe = (x.contiguous() for x in self.q.split([CKV, KPE], -1))
        cu_q = self.qo_indptr.cuda()
        return lambda: torch.ops._vllm_fa3_C.fwd(
            q_kpe, kpe, ckv, none, none, q_ckv, none, cu_q, none, none, none, self.lens, max_q, max_k, self.table, none, none,
            none, none, none, none, none, none, SM_SCALE, True, -1, -1, 0.0, True, none, 0, none, 0, none, 1, 0, none)[0]

    def flashmla(self):
        import torch
        queries, none = max(self.qo_lens), None
        q, kv = self.q.view(-1, queries, self.heads, CKV + KPE), self.kv[:, :, None]
        attend = torch.ops._flashmla_C.dense_decode_fwd
        state = attend(q, kv, CKV, self.lens, self.table, SM_SCALE, True, none, none, none)[2:4]  # its plan
        return lambda: attend(q, kv, CKV, self.lens, self.table, SM_SCALE, True, *state, none)[0].flatten(0, 1)


def loaded(names):
    """Which of these operators' files lie in $FA3_DIR; they are loaded."""
    import torch
    paths = {name: os.path.join(os.environ.get("FA3_DIR", ""), name) for name in names}
    there = [name for name, path in paths.items() if os.path.exists(path)]
    for name in there:
        torch.ops.load_library(paths[name])
    return there


def mla():
    here = loaded([VLLM_OPERATOR, FLASHMLA_OPERATOR])
    for case in MLA:
        work = Latents(case)
        wanted = list(work.wanted())
        line = lambda name, prepare: timed("mla", case, name, prepare, wanted, work.nbytes, work.flops)
        for backend in ("fa3", "fa2"):
            line(f"FlashInfer {backend}", lambda: work.flashinfer(backend))
        if VLLM_OPERATOR in here:
            line("FA3", work.fa3)
        if FLASHMLA_OPERATOR in here:
            line("FlashMLA", work.flashmla)


class SharedPrefix:
    """One query of each request behind a prefix that all share and a suffix of its own."""

    def __init__(self, case):
        import torch
        self.prefix, self.batch, self.suffix = map(int, re.match(r"prefix (\d+) shared by (\d+) \+ suffix (\d+)",
                                                                 case).groups())
        shared, own = self.prefix // 16, -(-self.suffix // 16)
        torch.manual_seed(1)
        self.q = torch.randn(self.batch, 32, 128, device="cuda", dtype=torch.float16)
        self.kv = torch.randn(shared + self.batch * own, 2, 16, 8, 128, device="cuda", dtype=torch.float16)
        ids = torch.randperm(len(self.kv)).int().cuda()
        self.shared, self.own = ids[:shared], ids[shared:]
        self.nbytes = (self.prefix + self.batch * self.suffix) * 8 * 256 * 2

    def wanted(self):
        import torch
        drawn, own = random.Random(11), len(self.own) // self.batch
        for _ in range(ROWS):
            b, head = drawn.randrange(self.batch), drawn.randrange(32)
            ids = torch.cat([self.shared, self.own[b * own:(b + 1) * own]]).long()
            k, v = (self.kv[ids, which, :, head // 4].flatten(0, 1)[:self.prefix + self.suffix].double() for which in (0, 1))
            yield (b, head), torch.softmax(k @ self.q[b, head].double() * 128 ** -0.5, 0) @ v

    def cascade(self):
        import flashinfer, torch
        ints = lambda *numbers: torch.tensor(numbers, dtype=torch.int32)
        own = len(self.own) // self.batch
        wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(
            2, torch.zeros(512 << 20, dtype=torch.uint8, device="cuda"), "NHD")
        last = ints(*[self.suffix - 16 * (own - 1)] * self.batch)
        wrapper.plan([ints(0, self.batch), torch.arange(self.batch + 1).int()],
                     [ints(0, len(self.shared)), torch.arange(self.batch + 1).int() * own], [self.shared, self.own],
                     [ints(16), last], 32, 8, 128, 16)
        return lambda: wrapper.run(self.q, self.kv)


def cascade():
    for case in CASCADE:
        work = SharedPrefix(case)
        timed("cascade", case, "FlashInfer cascade", work.cascade, list(work.wanted()), work.nbytes)


def lengths():
    """Calls over a block table with lengths on the device: XQA needs no plan, and FA3 makes its schedule in the call."""
    import torch
    from cases import Case
    from peers_flash_attn import FlashAttention3
    from peers_flashinfer import Xqa
    from work import Work
    for name in LENGTHS:
        qo_lens, kv_lens = lengths_of(name)
        decode = max(qo_lens) == 1
        case = Case("decode" if decode else "prefill", name, tuple(qo_lens), tuple(kv_lens), 32, 8, 128, 128, 16, "f16",
                    not decode, 128 ** -0.5, -1, 0.0)
        work = Work(case)
        if table := re.search(r"table (\d+)", name):
            wider = torch.zeros(len(kv_lens), int(table[1]) // 16, dtype=torch.int32, device="cuda")
            wider[:, :work.block_table.shape[1]] = work.block_table
            work.block_table, work.max_k = wider, int(table[1])
        wanted = [((int(work.qo_indptr[b]) + i, head), row) for (b, i, head), row in work.wanted]
        for peer in (Xqa(), FlashAttention3()):
            if peer.missing() or peer.refuses(case):
                continue
            def prepare():
                if peer.name != "FA3" or not decode:
                    call = peer.prepare(work)
                    return lambda: peer.rows(call())
                return lambda: peer.rows(peer.prepare(work)())
            timed("lengths", name, peer.name, prepare, wanted, case.nbytes())


def host_us(call, of=200):
    """The median, the GPU idle before each call."""
    import torch
    times = []
    for _ in range(of):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    torch.cuda.synchronize()
    return sorted(times)[of // 2] * 1e6


def plan():
    """plan() with what each wrapper wants: lengths on the host, and BatchAttention's on the GPU, as its users have them."""
    import flashinfer, torch
    from work import indptr
    workspace = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
    for case in PLAN:
        qo_lens, kv_lens = lengths_of(case)
        pages = [-(-n // 16) for n in kv_lens]
        qo, kv, ids = indptr(qo_lens), indptr(pages), torch.randperm(sum(pages)).int().cuda()
        last = torch.tensor([n - 16 * (p - 1) for n, p in zip(kv_lens, pages)], dtype=torch.int32)
        on_gpu, lens = [x.cuda() for x in (qo, kv)], torch.tensor(kv_lens, dtype=torch.int32).cuda()
        half = dict(q_data_type=torch.float16, kv_data_type=torch.float16)
        if max(qo_lens) == 1:
            decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=True)
            report("plan", case, "FlashInfer tensor-core",
                   host_us(lambda: decode.plan(kv, ids, last, 32, 8, 128, 16, **half)))
        else:
            for backend in ("fa3", "fa2"):
                prefill = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", backend=backend)
                report("plan", case, f"FlashInfer {backend}",
                       host_us(lambda: prefill.plan(qo, kv, ids, last, 32, 8, 128, 16, causal=True, **half)))
        both = flashinfer.BatchAttention(kv_layout="NHD")
        report("plan", case, "FlashInfer BatchAttention",
               host_us(lambda: both.plan(*on_gpu, ids, lens, 32, 8, 128, 128, 16, causal=True, **half)))
