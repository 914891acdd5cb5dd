"""A case of attention as the peers see it: a line of `flashladder bench FAMILY --list --json`, whose "shape" is an object of
the case table (docs/case_format.md); page_size 0 is a contiguous cache. No torch in here.
"""
import dataclasses, random

ELEMENT = {"f16": 2, "bf16": 2, "f8_e4m3": 1}  # bytes
NOT_IN_PAGES = ", K and V contiguous"  # behind a case string: the same lengths, but no pages. Other work than ours


@dataclasses.dataclass(frozen=True)
class Case:
    family: str  # decode or prefill
    name: str
    qo_lens: tuple
    kv_lens: tuple
    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    head_dim_vo: int
    page_size: int  # 0: contiguous
    dtype: str
    causal: bool
    sm_scale: float
    window_left: int
    logits_soft_cap: float
    why_not: str = ""  # no peer here takes it, because ...
    kv_dtype: str = ""  # of K and V, if it is not dtype
    sinks: bool = False
    custom_mask: str = "none"
    pos_encoding_mode: str = "NONE"

    @staticmethod
    def of(line):
        shape = line["shape"]
        dim = shape.get("head_dim")
        kv_dtype, mask = shape.get("kv_dtype", ""), shape["custom_mask"]
        unusual = [text for text, there in {
            f"dtype {shape['dtype']}": shape["dtype"] not in ("f16", "bf16"), "layout HND": shape["kv_layout"] != "NHD",
            f"a cache of {kv_dtype}": kv_dtype not in ("", "f8_e4m3"),
            "scales per head": shape.get("kv_scales") == "per_head",
            "another RoPE than with theta 10000": (shape.get("rope_scale", 1), shape.get("rope_theta", 1e4)) != (1, 1e4),
            f"custom mask {mask}": mask not in ("none", "tree"),
            "a request without a query or a key": 0 in shape["qo_lens"] + shape["kv_lens"]}.items() if there]
        return Case(line["family"], line["case"], tuple(shape["qo_lens"]), tuple(shape["kv_lens"]), shape["num_qo_heads"],
                    shape["num_kv_heads"], dim or shape["head_dim_qk"], dim or shape["head_dim_vo"], shape["page_size"],
                    shape["dtype"], shape["causal"], shape["sm_scale"], shape["window_left"], shape["logits_soft_cap"],
                    "the peers are not called with " + ", ".join(unusual) if unusual else "", kv_dtype, shape["sinks"], mask,
                    shape["pos_encoding_mode"])

    @property
    def features(self):
        """Of these a peer must say that it takes them (Peer.takes); of the others, why it does not."""
        there = {"sinks": self.sinks, "a custom mask": self.custom_mask != "none", "an fp8 cache": self.kv_dtype,
                 f"position encoding {self.pos_encoding_mode}": self.pos_encoding_mode != "NONE"}
        return [name for name, is_there in there.items() if is_there]

    @property
    def decode(self):
        return all(n == 1 for n in self.qo_lens)

    @property
    def contiguous(self):
        return self.page_size == 0

    @property
    def one_length(self):
        return len(set(self.qo_lens)) == len(set(self.kv_lens)) == 1

    def without_pages(self):
        return dataclasses.replace(self, name=self.name + NOT_IN_PAGES, page_size=0)

    def visible(self, request, query):
        """(first, end) of the keys that a query sees, whatever a custom mask says: docs/conventions.md."""
        diagonal = query + self.kv_lens[request] - self.qo_lens[request]
        first = max(0, diagonal - self.window_left) if self.window_left >= 0 else 0
        return first, max(first, min(self.kv_lens[request], diagonal + 1) if self.causal else self.kv_lens[request])

    def nbytes(self):
        """K and V that some query sees, once, as our own lines count."""
        seen = 0
        for b, (queries, keys) in enumerate(zip(self.qo_lens, self.kv_lens)):
            seen += keys if self.window_left < 0 else self.visible(b, queries - 1)[1] - self.visible(b, 0)[0]
        return seen * self.num_kv_heads * (self.head_dim_qk + self.head_dim_vo) * ELEMENT[self.kv_dtype or self.dtype]

    def flops(self):
        """Of the visible pairs; of decode nobody asks."""
        if self.family == "decode":
            return None
        spans = (self.visible(b, i) for b, queries in enumerate(self.qo_lens) for i in range(queries))
        return 2 * self.num_qo_heads * (self.head_dim_qk + self.head_dim_vo) * sum(end - first for first, end in spans)

    def sampled_rows(self, count):
        """(request, query, head), the first and the last query of all among them; the same in every program."""
        drawn = random.Random(11)
        last = len(self.qo_lens) - 1
        rows = [(0, 0, 0), (last, self.qo_lens[last] - 1, self.num_qo_heads - 1)]
        while len(rows) < count:
            b = drawn.randrange(len(self.qo_lens))
            rows.append((b, drawn.randrange(self.qo_lens[b]), drawn.randrange(self.num_qo_heads)))
        return rows


def family_of(shape):
    """decode if every request has one query"""
    return "decode" if all(n == 1 for n in shape["qo_lens"]) else "prefill"
