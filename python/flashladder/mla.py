"""Latent attention over pages: BatchMLAPagedAttention."""
import ctypes
from typing import NamedTuple

from . import _structs as s
from . import operations as _operations
from ._arrays import HostLengths, dtype_code, family_of, name_of_dtype, on_host
from ._library import call, refuse
from ._object import PlannedObject
from ._run import _flat
from ._tensors import TensorSlot, describe, one_device, out_like, tensors
from .attention import _one_of, _room

__all__ = ["BatchMLAPagedAttention", "MlaConfig", "append_paged_mla_kv_cache"]


class MlaConfig(NamedTuple):
    """The numbers of latent attention. sm_scale must be said: 1 / sqrt(128 + 64) for DeepSeek's models."""
    num_heads: int
    sm_scale: float
    page_size: int = 1
    head_dim_ckv: int = 512
    head_dim_kpe: int = 64                 # 0: none
    causal: bool = False
    kv_dtype: object = "float16"
    q_dtype: object = None
    o_dtype: object = None
    policy: str = "balanced"
    chunk_size: int = 0
    threads: int = 0
    num_sms: int = 0


def _scale(x, argument):
    """0 is none in the C interface."""
    if x is not None and float(x) == 0.0:
        refuse(argument, 0, "must not be 0")
    return 0.0 if x is None else float(x)


class BatchMLAPagedAttention(PlannedObject):
    """Attention between absorbed queries and latent rows, of which ckv are keys and values, and kpe keys alone.

    like: an array whose device and library are taken. Memory is bought for the largest batch so far. limits: for CUDA graphs,
    the largest batch that any plan() will have; q and o have max_nnz_qo rows then.
    """
    _NAME = "mla"

    def __init__(self, config: MlaConfig, like, limits=None):
        self.config, self.family, self.limits = config, family_of(like), limits
        self.device, self.on_gpu = self.family.device(like), self.family.gpu(like)
        c = config
        optional = {name: dtype_code(value, name) for name, value in (("q_dtype", c.q_dtype), ("o_dtype", c.o_dtype))
                    if value is not None}
        self._config = s.MlaConfig(
            num_heads=c.num_heads, head_dim_ckv=c.head_dim_ckv, head_dim_kpe=c.head_dim_kpe or -1, page_size=c.page_size,
            causal=int(bool(c.causal)), sm_scale=c.sm_scale, kv_dtype=dtype_code(c.kv_dtype, "kv_dtype"), **optional,
            device=s.GPU if self.on_gpu else s.CPU, policy=_one_of(s.POLICIES, c.policy, "policy"), chunk_size=c.chunk_size,
            threads=c.threads, num_sms=c.num_sms)
        self.o_code = dtype_code(c.o_dtype or c.q_dtype or c.kv_dtype)
        self._limits, self._memory, self._batch, self._host = None, (), s.Batch(), HostLengths()

    def plan(self, qo_indptr, kv_indptr, last_page_len, page_ids):
        """Plans a batch: int32 [batch + 1] queries and pages, cumulative, and [batch] tokens in last pages, on the host or on
        the device (one wait); page_ids int32 [pages], which are copied."""
        host = on_host([qo_indptr, kv_indptr, last_page_len])
        batch = host[2].shape[0]
        for x, name in ((host[0], "qo_indptr"), (host[1], "kv_indptr")):
            if x.shape[0] != batch + 1:
                refuse(f"{name} size", x.shape[0], f"must be {batch + 1}: last_page_len has {batch} entries")
        b = self._batch
        b.qo_indptr, b.paged_kv_indptr, b.paged_kv_last_page_len = self._host.keep(
            [(family_of(x).pointer(x), x.shape[0]) for x in host])
        rows, pages = self._host.at(b.qo_indptr, batch), self._host.at(b.paged_kv_indptr, batch)
        owner = family_of(page_ids, "page_ids")
        self._ids = page_ids = owner.dense(owner.int32(page_ids))
        if page_ids.shape[0] < pages:
            refuse("page_ids size", page_ids.shape[0], f"must be at least the pages of the batch ({pages})")
        b.batch, b.page_ids, b.num_page_ids = batch, owner.pointer(page_ids) or None, pages
        b.page_ids_on = s.GPU if owner.gpu(page_ids) else s.CPU
        self._reserve(batch, pages, rows)
        self._plan(self._stream())

    def _plan(self, stream):
        self._planned_on = stream
        call("fl_mla_plan", self._handle, ctypes.addressof(self._batch), stream)

    def _reserve(self, batch, pages, rows):
        """The object for as many rows as the batch has, or as its limits say: it reads and writes that many."""
        have = self._limits
        if self.limits is not None:
            if self._handle is None:
                self._make(self.limits.struct())
            return
        if self._handle is not None and batch <= have.max_batch and pages <= have.max_pages and rows == have.max_nnz_qo:
            return
        old = (have.max_batch, have.max_pages) if have is not None else (0, 0)
        limits = s.AttentionLimits(max_batch=max(_room(batch), old[0], 1), max_pages=max(_room(pages), old[1], 1),
                                   max_nnz_qo=rows)
        self._make(limits)

    def _make(self, limits):
        device, staging, handle = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
        call("fl_mla_bytes_for_limits", ctypes.addressof(self._config), ctypes.addressof(limits), ctypes.addressof(device),
             ctypes.addressof(staging))
        self.close()
        workspace, memory = self._workspace(device.value, staging.value)
        call("fl_mla_create", ctypes.addressof(self._config), ctypes.addressof(limits), ctypes.addressof(workspace),
             ctypes.addressof(handle))
        self._handle, self._limits, self._memory = handle.value, limits, memory

    def run(self, q_nope, q_pe, ckv_cache, kpe_cache=None, out=None, lse=None, return_lse=False, natural=False, ckv_scale=None,
            kpe_scale=None):
        """o [rows, num_heads, head_dim_ckv] of the planned batch, or (o, lse), lse f32 [rows, num_heads] to base 2.

        q_nope     [rows, num_heads, head_dim_ckv]; q_pe [rows, num_heads, head_dim_kpe]
        ckv_cache  [pages, page_size, head_dim_ckv]; kpe_cache [pages, page_size, head_dim_kpe]. Without kpe_cache: one array
                   [pages, page_size, head_dim_ckv + head_dim_kpe]. Of fp8 also as uint8
        ckv_scale, kpe_scale  what a stored number stands for; None: itself
        """
        self._must_be_planned("run()")
        family, c = self.family, self.config
        if family_of(q_nope, "q_nope") is not family or family.device(q_nope) != self.device:
            refuse("q_nope", f"on {family_of(q_nope).device(q_nope)}", f"must lie where the object was made ({self.device})")
        one_device(q_nope, (("ckv_cache", ckv_cache), ("kpe_cache", kpe_cache), ("out", out)))
        shape = (q_nope.shape[0], c.num_heads, c.head_dim_ckv)
        out = out_like(family, out, shape, self.o_code, self.device)
        if return_lse and lse is None:
            lse = family.empty(shape[:2], s.F32, self.device)
        given, rows = {"q_nope": q_nope, "out": out}, {"ckv_cache": ckv_cache}
        if c.head_dim_kpe:
            given["q_pe"] = q_pe
            if kpe_cache is not None:
                rows["kpe_cache"] = kpe_cache
        if all(name_of_dtype(x.dtype) != "uint8" for x in rows.values()):
            given, rows = {**given, **rows}, {}
        slots, addresses = tensors(**given)
        at, kept = dict(zip(given, addresses)), [self._rows(x, name) for name, x in rows.items()]
        at.update(zip(rows, (slot.address for slot in kept)))
        kpe = at.get("kpe_cache")
        cache = s.MlaCache(ckv=at["ckv_cache"], kpe=kpe, head_dim_ckv=0 if kpe else c.head_dim_ckv,
                           ckv_scale=_scale(ckv_scale, "ckv_scale"), kpe_scale=_scale(kpe_scale, "kpe_scale"))
        arguments = s.MlaArguments(q_nope=at["q_nope"], q_pe=at.get("q_pe"), cache=ctypes.addressof(cache), o=at["out"])
        if lse is not None:
            setattr(arguments, "lse_natural" if natural else "lse_log2",
                    _flat(family, lse, "lse", shape[0] * shape[1], self.device))
        stream = self._stream()
        if family.moved(stream, self._planned_on):
            self._plan(stream)
        call("fl_mla_run", self._handle, ctypes.addressof(arguments), stream)
        del slots, kept
        return (out, lse) if return_lse else out

    def _rows(self, cache, argument):
        """An fl_tensor of latent rows that are fp8's bits."""
        slot, family = TensorSlot(), family_of(cache, argument)
        shape, strides = family.layout(cache)
        code = family.cache_code(cache, argument, self._config.kv_dtype)
        describe(slot.buffer, 0, family.pointer(cache), code, shape, strides)
        slot.array = cache
        return slot


def append_paged_mla_kv_cache(append_ckv, append_kpe, batch_indices, positions, ckv_cache, kpe_cache, kv_indices, kv_indptr,
                              kv_last_page_len, ckv_scale=None, kpe_scale=None):
    """append_paged_kv_cache for latent rows: append_ckv [nnz, head_dim_ckv], append_kpe [nnz, head_dim_kpe], into caches
    [pages, page_size, head_dim_ckv] and [pages, page_size, head_dim_kpe]. Caches of fp8 take wide rows: each number over its
    scale."""
    rows = append_ckv.shape[0]
    batch_indices, batch_at = _operations._ints(batch_indices, "batch_indices", append_ckv, rows)
    positions, positions_at = _operations._ints(positions, "positions", append_ckv, rows)
    lists, keep = _operations._page_lists(append_ckv, kv_indices, kv_indptr, kv_last_page_len)
    slots, at = tensors(append_ckv=append_ckv, append_kpe=append_kpe, ckv_cache=ckv_cache, kpe_cache=kpe_cache)
    cache = s.MlaCache(ckv=at[2], kpe=at[3], ckv_scale=_scale(ckv_scale, "ckv_scale"),
                       kpe_scale=_scale(kpe_scale, "kpe_scale"))
    _operations._call("fl_append_paged_mla_kv_cache", slots, at[0], at[1], batch_at, positions_at,
                      ctypes.addressof(cache), ctypes.addressof(lists))
    del slots, keep, batch_indices, positions
