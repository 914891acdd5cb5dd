"""A case's tensors on the GPU, random and with shuffled pages, in every form in which a peer wants them; and the check of
what a peer computed, which comes before its time."""
import functools, math, random
import torch

ROWS = 48  # sampled rows and heads
ROUNDINGS = 16  # of the dtype: how far a sampled row may be from double, relative to its own size
DTYPE = {"f16": torch.float16, "bf16": torch.bfloat16, "f8_e4m3": torch.float8_e4m3fn}
ROPE_THETA = 1e4


def indptr(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def tree_mask(qo_len, kv_len):
    """[qo_len, kv_len]: drafts behind a prefix. Each sees the prefix, its ancestors and itself."""
    drawn, sees = random.Random(7), torch.zeros(qo_len, qo_len, dtype=torch.bool)
    for i in range(qo_len):
        parent = drawn.randrange(i + 1) - 1  # -1: follows the prefix
        if parent >= 0:
            sees[i] = sees[parent]
        sees[i, i] = True
    return torch.cat([torch.ones(qo_len, kv_len - qo_len, dtype=torch.bool), sees], dim=1)


def alibi_slope(head, num_heads):
    """Press et al., 2108.12409, section 3: powers of 2^(-8/n) for n heads, n a power of two; the heads behind it take every
    other one of 2n."""
    power = 2 ** int(math.log2(num_heads))
    return 2.0 ** (-8 * (head + 1) / power) if head < power else 2.0 ** (-4 * (2 * (head - power) + 1) / power)


def rotated(x, positions):
    """RoPE, half-rotate, of x [n, head_dim] in double."""
    half = x.shape[-1] // 2
    frequency = ROPE_THETA ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = positions.double()[:, None] * frequency
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=1)


class Work:
    """q [nnz_qo, num_qo_heads, head_dim]; k and v [pages, page_size, num_kv_heads, head_dim], two halves of `kv` where the
    head dims are equal; of a contiguous case [tokens, num_kv_heads, head_dim]."""

    def __init__(self, case, device="cuda"):
        self.case, self.device = case, device
        self.dtype, self.kv_dtype = DTYPE[case.dtype], DTYPE[case.kv_dtype or case.dtype]
        torch.manual_seed(1)
        rand = lambda *shape, dtype=self.kv_dtype: torch.randn(*shape, device=device, dtype=self.dtype).to(dtype)
        self.q = rand(sum(case.qo_lens), case.num_qo_heads, case.head_dim_qk, dtype=self.dtype)
        self.sinks = rand(case.num_qo_heads, dtype=torch.bfloat16) if case.sinks else None  # as some peers want them
        self.pages = [-(-n // max(1, case.page_size)) for n in case.kv_lens]
        slots = [sum(self.pages)] + ([] if case.contiguous else [case.page_size])
        dims = case.head_dim_qk, case.head_dim_vo
        if case.contiguous or dims[0] != dims[1]:
            self.k, self.v = (rand(*slots, case.num_kv_heads, dim) for dim in dims)
            self.kv = self.k, self.v
        else:
            self.kv = rand(slots[0], 2, slots[1], case.num_kv_heads, dims[0])
            self.k, self.v = self.kv[:, 0], self.kv[:, 1]
        ids = torch.arange(slots[0]) if case.contiguous else torch.randperm(slots[0])
        self.page_ids = ids.int().to(device)
        self.page_indptr, self.qo_indptr, self.kv_indptr = indptr(self.pages), indptr(case.qo_lens), indptr(case.kv_lens)
        self.last_page_len = torch.tensor([n - (p - 1) * max(1, case.page_size) for n, p in zip(case.kv_lens, self.pages)],
                                          dtype=torch.int32)
        self.kv_lens = torch.tensor(case.kv_lens, dtype=torch.int32, device=device)
        self.cu_q, self.cu_k = self.qo_indptr.to(device), self.kv_indptr.to(device)
        self.max_q, self.max_k = max(case.qo_lens), max(case.kv_lens)

    @functools.cached_property
    def block_table(self):
        """[batch, max_pages], zeros behind a request's pages"""
        table = torch.zeros(len(self.pages), max(self.pages), dtype=torch.int32, device=self.device)
        for b, count in enumerate(self.pages):
            table[b, :count] = self.page_ids[self.page_indptr[b]:self.page_indptr[b] + count]
        return table

    @functools.cached_property
    def masks(self):
        """[qo_len, kv_len] of each request; None without a mask"""
        if self.case.custom_mask == "none":
            return None
        lengths = list(zip(self.case.qo_lens, self.case.kv_lens))
        of = {pair: tree_mask(*pair).to(self.device) for pair in set(lengths)}
        return [of[pair] for pair in lengths]

    def tokens(self, cache, b, head):
        """[kv_len, head_dim] of a request and KV head, in the order of tokens"""
        ids = self.page_ids[self.page_indptr[b]:self.page_indptr[b + 1]].long()
        cache = cache.view(torch.uint8) if cache.dtype == torch.float8_e4m3fn else cache  # fp8 is not indexed everywhere
        rows = cache[ids, head] if self.case.contiguous else cache[ids, :, head].flatten(0, 1)
        return rows[:self.case.kv_lens[b]].view(self.kv_dtype)

    def exact_row(self, b, i, head):
        """[head_dim_vo], in double"""
        case = self.case
        first, end = case.visible(b, i)
        kv_head = head // (case.num_qo_heads // case.num_kv_heads)
        keys, values = (self.tokens(x, b, kv_head)[first:end].double() for x in (self.k, self.v))
        q, at = self.q[self.qo_indptr[b] + i, head].double(), torch.arange(first, end, device=keys.device)
        if case.pos_encoding_mode == "ROPE_LLAMA":
            here = torch.tensor([i + case.kv_lens[b] - case.qo_lens[b]], device=keys.device)
            q, keys = rotated(q[None], here)[0], rotated(keys, at)
        logits = keys @ q * case.sm_scale
        if case.logits_soft_cap > 0:
            logits = case.logits_soft_cap * torch.tanh(logits / case.logits_soft_cap)
        if case.pos_encoding_mode == "ALIBI":
            logits = logits + alibi_slope(head, case.num_qo_heads) * (at - end)
        if self.masks:
            logits = logits.masked_fill(~self.masks[b][i, first:end], -math.inf)
        if self.sinks is not None:
            logits = torch.cat([logits, self.sinks[head].double()[None]])
        return torch.softmax(logits, 0)[:end - first] @ values

    @functools.cached_property
    def wanted(self):
        return [(row, self.exact_row(*row)) for row in self.case.sampled_rows(ROWS)]

    def wrong(self, o, most=None):
        """What is wrong with a peer's o [nnz_qo, num_qo_heads, head_dim_vo], or None; most: how far off a row may be."""
        shape = (self.q.shape[0], self.case.num_qo_heads, self.case.head_dim_vo)
        if tuple(o.shape) != shape:
            return f"o has shape {list(o.shape)}, not {list(shape)}"
        most = most or ROUNDINGS * torch.finfo(self.dtype).eps / 2
        for (b, i, head), want in self.wanted:
            off = ((o[self.qo_indptr[b] + i, head].double() - want).norm() / want.norm()).item()
            if not off <= most:  # NaN too
                return f"o of request {b} query {i} head {head} is off by {off:.2g} of its size, more than {most:.2g}"
        return None
