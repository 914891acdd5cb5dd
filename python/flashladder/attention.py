"""Attention over a paged KV cache by plan and run: the classes of docs/api.md for Python.

An object belongs to one thread and one stream at a time. plan() takes lengths, on the host or on the device of the arrays
(those cost one wait), and run() takes arrays, which may be called once a layer. docs/python.md has an example.
"""
import ctypes
from typing import NamedTuple, Optional

from . import _structs as s
from ._arrays import HostLengths, dtype_code, family_of, family_of_device, on_host
from ._library import call, lib, raise_error, refuse, text_of
from ._object import PlannedObject
from ._run import RunCall

__all__ = ["Attention", "AttentionConfig", "Limits"]


class AttentionConfig(NamedTuple):
    """The numbers that no plan() and no run() changes. dtypes: float16, bfloat16, float32, of kv also float8_e4m3fn and
    float8_e5m2, as names or as dtypes of torch or numpy; `None` stands for the default
    (docs/conventions.md)."""
    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    page_size: int = 1
    head_dim_vo: Optional[int] = None
    kv_dtype: object = "float16"
    q_dtype: object = None
    o_dtype: object = None
    sm_scale: Optional[float] = None       # 1 / sqrt(head_dim_qk)
    mask: str = "none"                     # none, causal, custom
    window_left: int = -1
    logits_soft_cap: float = 0.0
    pos_encoding_mode: str = "NONE"        # NONE, ROPE_LLAMA, ALIBI
    rope_scale: float = 1.0
    rope_theta: float = 1e4
    sinks: bool = False
    policy: str = "balanced"               # balanced, even, fixed, none, count, target
    chunk_size: int = 0
    threads: int = 0
    enable_pdl: bool = False
    backend: str = "auto"                  # auto, fa2, fa3: of a prefill on the GPU
    num_sms: int = 0


def _one_of(table, value, argument):
    if value not in table:
        refuse(argument, value, "must be one of " + ", ".join(table))
    return table[value]


_MASKS = {"none": s.MASK_NONE, "causal": s.MASK_CAUSAL, "custom": s.MASK_CUSTOM}


def c_logits(c):
    """fl_logits of a config."""
    if c.sm_scale == 0:
        refuse("sm_scale", 0, "must be a positive number")
    return s.Logits(sm_scale=c.sm_scale or 0.0, mask=_one_of(_MASKS, c.mask, "mask"), use_window=int(c.window_left != -1),
                    window_left=c.window_left if c.window_left != -1 else 0, logits_soft_cap=c.logits_soft_cap,
                    pos_encoding_mode=_one_of(s.POS_ENCODING_MODES, c.pos_encoding_mode, "pos_encoding_mode"),
                    rope_scale=c.rope_scale, rope_theta=c.rope_theta)


def c_config(c, on_gpu):
    """fl_attention_config, and the fl_logits that it points to."""
    logits = c_logits(c)
    optional = {name: dtype_code(value, name) for name, value in (("q_dtype", c.q_dtype), ("o_dtype", c.o_dtype))
                if value is not None}
    config = s.AttentionConfig(
        num_qo_heads=c.num_qo_heads, num_kv_heads=c.num_kv_heads, head_dim_qk=c.head_dim_qk, head_dim_vo=c.head_dim_vo or 0,
        page_size=c.page_size, kv_dtype=dtype_code(c.kv_dtype, "kv_dtype"), **optional, sinks=int(c.sinks),
        device=s.GPU if on_gpu else s.CPU, policy=_one_of(s.POLICIES, c.policy, "policy"), chunk_size=c.chunk_size,
        threads=c.threads, enable_pdl=int(c.enable_pdl and on_gpu), backend=_one_of(s.BACKENDS, c.backend, "backend"),
        logits=ctypes.addressof(logits), num_sms=c.num_sms)
    return config, logits


def _room(n):
    return 1 << max(int(n) - 1, 0).bit_length() if n else 0


class Limits(NamedTuple):
    """The largest batch that a graph, or a workspace, is made for."""
    max_batch: int
    max_pages: int
    max_nnz_qo: int = 0
    max_qo_len: int = 0

    def struct(self):
        return s.AttentionLimits(max_batch=self.max_batch, max_pages=self.max_pages, max_nnz_qo=self.max_nnz_qo,
                                 max_qo_len=self.max_qo_len)


class Attention(PlannedObject):
    """One object of the library with its memory: BatchDecodeWithPagedKVCache and its kin are made of this.

    kind     DECODE, PREFILL, RAGGED_PREFILL, GRAPH_DECODE, GRAPH_PREFILL, BATCH_ATTENTION or GRAPH_RAGGED_PREFILL
    like     an array, or "cpu" / "cuda:0" (with torch): the device, and what memory is made of
    limits   of the kinds that graphs capture
    spare    bytes that copies may take which are not needed, but faster (docs/api.md, pages that are no multiple of 8)
    """
    _NAME = "attention"

    def __init__(self, kind, config: AttentionConfig, like, limits: Optional[Limits] = None, kv_layout="NHD", spare=1 << 27):
        self.kind, self.config, self.limits, self.spare = kind, config, limits, spare
        self._like, self._layout_name = like, kv_layout
        self.layout = _one_of(s.LAYOUTS, kv_layout, "kv_layout")
        if isinstance(like, str) or not hasattr(like, "shape"):
            self.family, self.device = family_of_device(like)
            self.on_gpu = str(self.device).startswith("cuda")
        else:
            self.family = family_of(like)
            self.device, self.on_gpu = self.family.device(like), self.family.gpu(like)
        self.is_graph = kind >= s.GRAPH_DECODE
        self.takes_ids = kind in (s.DECODE, s.PREFILL)
        self._config, self._logits = c_config(config, self.on_gpu)
        self._room, self._bytes, self._memory = limits or Limits(0, 0), (-1, -1), ()
        self._batch, self._host = s.Batch(), HostLengths()
        self._batch_address = ctypes.addressof(self._batch)
        self.batch = self.rows = self.num_pages = 0
        self.planned_on = None
        self._run = RunCall(self)
        if limits is not None:
            self._make(limits)

    # --- Memory -----------------------------------------------------------------------------------------------------
    def _ask(self, function, limits, *outs):
        call(function, self.kind, ctypes.addressof(self._config), ctypes.addressof(limits), *map(ctypes.addressof, outs))

    def _bytes_for(self, limits):
        device, staging, least = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t()
        struct = limits.struct()
        self._ask("fl_attention_bytes_for_limits", struct, device, staging)
        if device.value > self.spare:
            call("fl_attention_least_device_bytes_for_limits", self.kind, ctypes.addressof(self._config),
                 ctypes.addressof(struct), ctypes.addressof(least))
            device.value = min(device.value, max(least.value, self.spare))
        return device.value, staging.value

    def _make(self, limits):
        """The object, with memory for every batch within limits."""
        wants = self._bytes_for(limits)
        if self._handle is not None and wants[0] <= self._bytes[0] and wants[1] <= self._bytes[1]:
            self._room = limits
            return
        self.close()
        workspace, memory = self._workspace(*wants)
        handle = ctypes.c_void_p()
        most = limits.struct()
        call("fl_attention_create", self.kind, ctypes.addressof(self._config),
             ctypes.addressof(most) if self.is_graph else None, ctypes.addressof(workspace), ctypes.addressof(handle))
        self._handle, self._bytes, self._memory, self._room = handle.value, wants, memory, limits

    def _reserve(self, batch, pages, rows):
        room = self._room
        if self.limits is None and (batch > room.max_batch or pages > room.max_pages or rows > room.max_nnz_qo
                                    or self._handle is None):
            self._make(Limits(max(_room(batch), room.max_batch), max(_room(pages), room.max_pages),
                              max(_room(rows), room.max_nnz_qo)))

    def workspace_bytes(self):
        """(device, staging): bytes that the object holds."""
        return self._bytes

    # --- plan -------------------------------------------------------------------------------------------------------
    def plan(self, kv_indptr, last_page_len=None, qo_indptr=None, page_ids=None):
        """Plans a batch of page lists, or of a ragged cache, whose kv_indptr counts tokens.

        kv_indptr      int32 [batch + 1]: pages of each request, cumulative (paged_kv_indptr)
        last_page_len  int32 [batch]: tokens in each last page; None for a ragged cache
        qo_indptr      int32 [batch + 1]: queries of each request, cumulative; None for a decode
        page_ids       int32 [pages]: for graphs, which keep a copy; on the host or on the device
        """
        family = self.family
        given = [x for x in (kv_indptr, last_page_len, qo_indptr) if x is not None]
        host = on_host(given)
        batch = host[0].shape[0] - 1
        if batch < 0:
            refuse("kv_indptr", "no entry", "must have batch + 1 entries")
        for x, n, name in ((host[1] if last_page_len is not None else None, batch, "last_page_len"),
                           (host[-1] if qo_indptr is not None else None, batch + 1, "qo_indptr")):
            if x is not None and x.shape[0] != n:
                refuse(f"{name} size", x.shape[0], f"must be {n}: kv_indptr has {batch + 1} entries")
        kept = self._host.keep([(family_of(x).pointer(x), x.shape[0]) for x in host])
        b = self._batch
        b.batch, self.num_pages = batch, self._host.at(kept[0], batch)
        self.rows = batch if qo_indptr is None else self._host.at(kept[-1], batch)
        if self.kind in s.RAGGED:
            b.kv_indptr = kept[0]
        else:
            b.paged_kv_indptr, b.paged_kv_last_page_len = kept[0], kept[1]
        b.qo_indptr = kept[-1] if qo_indptr is not None else None
        if self.is_graph and self.kind not in s.RAGGED:
            self._give_page_ids(page_ids)
        self._plan(batch, family)

    def plan_block_table(self, seq_lens, max_pages, qo_indptr=None, block_tables=None):
        """Plans a batch whose page ids are a dense block table [batch, max_pages]; seq_lens int32 [batch]."""
        host = on_host([x for x in (seq_lens, qo_indptr) if x is not None])
        kept = self._host.keep([(family_of(x).pointer(x), x.shape[0]) for x in host])
        b, batch = self._batch, host[0].shape[0]
        if qo_indptr is not None and host[1].shape[0] != batch + 1:
            refuse("qo_indptr size", host[1].shape[0], f"must be {batch + 1}: seq_lens has {batch} entries")
        b.batch, b.max_pages, b.seq_lens, self.num_pages = batch, max_pages, kept[0], batch * max_pages
        b.qo_indptr = kept[1] if qo_indptr is not None else None
        self.rows = batch if qo_indptr is None else self._host.at(kept[1], batch)
        if self.is_graph:
            self._give_page_ids(block_tables)
        self._plan(batch, self.family)

    def _give_page_ids(self, page_ids):
        if page_ids is None:
            refuse("page_ids", "None", "must be given: a graph keeps a copy of them")
        owner = family_of(page_ids, "page_ids")
        self._ids = page_ids = owner.dense(owner.int32(page_ids))
        b = self._batch
        b.page_ids, b.num_page_ids = owner.pointer(page_ids) or None, self.num_pages
        b.page_ids_on = s.GPU if owner.gpu(page_ids) else s.CPU
        entries = 1
        for extent in page_ids.shape:
            entries *= extent
        if entries < self.num_pages:
            refuse("page_ids size", entries, f"must be at least the pages of the batch ({self.num_pages})")

    def _plan(self, batch, family):
        self._reserve(batch, self.num_pages, 0 if self.kind in (s.DECODE, s.GRAPH_DECODE) else self.rows)
        self.batch = batch
        self.planned_on = stream = self._stream()
        status = lib.fl_attention_plan(self._handle, self._batch_address, stream)
        if status:
            raise_error(status)

    def again_with(self, config):
        """Another object, of `config`, planned with the lengths of this one's last plan()."""
        other = Attention(self.kind, config, self._like, self.limits, self._layout_name, self.spare)
        other._batch, other._host, other._batch_address = self._batch, self._host, self._batch_address
        other.plan_like(self)
        return other

    def plan_like(self, other):
        """plan() with the lengths of an object that again_with() made this one of, or the other way round, or of itself."""
        self.num_pages, self.rows = other.num_pages, other.rows
        self._plan(other.batch, self.family)

    # --- run --------------------------------------------------------------------------------------------------------
    def run(self, q, kv, page_ids=None, out=None, lse=None, return_lse=False, sinks=None, custom_mask=None, natural=False,
            k_scale=None, v_scale=None):
        """Attention of the planned batch: o, or (o, lse).

        q            [rows, num_qo_heads, head_dim_qk], strides free but along head_dim
        kv           a cache of rank 5 with K at index 0 and V at 1, or (K, V) of rank 4, or of rank 3 with pages of one
                     token. Of a ragged cache: (K, V) of rank 3, [tokens, num_kv_heads, head_dim]
        page_ids     int32 [pages] or [batch, max_pages], on the device; not of graphs and ragged caches, which have them
        out, lse     where the result goes; made anew if None. lse: f32 [rows, num_qo_heads], base 2 (natural=True: base e)
        sinks        f32 [num_qo_heads], if the config has sinks
        k_scale, v_scale  what a stored k and v are multiplied with (fp8 caches; any dtype): numbers, or f32 [num_kv_heads]
        custom_mask  bool or uint8, [qo_len, kv_len] of each request one after the other, with mask="custom"
        """
        return self._run(self, q, kv, page_ids, out, lse, return_lse, sinks, custom_mask, natural, k_scale, v_scale)

    def plan_json(self):
        """The plan in force, as JSON."""
        self._must_be_planned("plan_json()")
        return text_of("fl_attention_plan_json", self._handle)
