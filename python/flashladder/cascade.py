"""Prefixes that requests share, level by level: MultiLevelCascadeAttention."""
import ctypes

from . import _structs as s
from ._arrays import HostLengths, dtype_code, family_of, on_host
from ._library import call, refuse
from ._object import PlannedObject
from ._run import PaddedRows, _flat
from ._tensors import out_like, tensors_and_cache
from .attention import AttentionConfig, Limits, c_config

__all__ = ["CUDAGraphMultiLevelCascadeAttention", "MultiLevelCascadeAttention"]


class MultiLevelCascadeAttention(PlannedObject):
    """Attention in which groups of requests read the pages that they share once (docs/17_cascades.md).

    config  an AttentionConfig; its mask is that of the last level. like: an array whose device and library are taken.
    explain() has a line for each level.
    """
    _NAME = "cascade"

    def __init__(self, num_levels, config: AttentionConfig, like, kv_layout="NHD"):
        self.num_levels, self.config, self.layout = num_levels, config, s.LAYOUTS[kv_layout]
        self.family = family_of(like)
        self.device, self.on_gpu = self.family.device(like), self.family.gpu(like)
        self._config, self._logits = c_config(config, self.on_gpu)
        self._levels = [s.Batch() for _ in range(num_levels)]
        self._pointers = (ctypes.c_void_p * num_levels)(*map(ctypes.addressof, self._levels))
        self._host = [HostLengths() for _ in range(num_levels)]
        self._bytes, self._memory, self._ids, self._planned_on = (-1, -1), (), None, None

    def plan(self, qo_indptr_arr, paged_kv_indptr_arr, paged_kv_last_page_len_arr, paged_kv_indices_arr):
        """Plans a batch: for each level, the most shared one first, what a prefill has.

        qo_indptr[l] int32 [groups + 1], paged_kv_indptr[l] int32 [groups + 1], last_page_len[l] int32 [groups]: on the host
        or on the device (one wait); paged_kv_indices[l] int32, on the device.
        """
        count = {len(qo_indptr_arr), len(paged_kv_indptr_arr), len(paged_kv_last_page_len_arr), len(paged_kv_indices_arr)}
        if count != {self.num_levels}:
            refuse("levels", sorted(count), f"must be {self.num_levels}, in every list")
        flat = [x for level in zip(qo_indptr_arr, paged_kv_indptr_arr, paged_kv_last_page_len_arr) for x in level]
        host = on_host(flat)
        for level in range(self.num_levels):
            qo, kv, last = host[3 * level:3 * level + 3]
            b, groups = self._levels[level], last.shape[0]
            if qo.shape[0] != groups + 1 or kv.shape[0] != groups + 1:
                refuse(f"level {level}", f"{qo.shape[0]} and {kv.shape[0]} entries",
                       f"indptrs must have {groups + 1}: last_page_len has {groups}")
            b.batch = groups
            b.qo_indptr, b.paged_kv_indptr, b.paged_kv_last_page_len = self._host[level].keep(
                [(family_of(x).pointer(x), x.shape[0]) for x in (qo, kv, last)])
        self._take_ids(paged_kv_indices_arr)
        self.rows = self._host[0].at(self._levels[0].qo_indptr, self._levels[0].batch)
        self._reserve()
        self._plan(self._stream())

    def _take_ids(self, paged_kv_indices_arr):
        self._ids = [self.family.dense(self.family.int32(ids)) for ids in paged_kv_indices_arr]

    def _plan(self, stream):
        self._planned_on = stream
        call("fl_cascade_plan", self._handle, self._pointers, self.num_levels, stream)

    def _reserve(self):
        device, staging = ctypes.c_size_t(), ctypes.c_size_t()
        call("fl_cascade_bytes_for_batch", ctypes.addressof(self._config), self._pointers, self.num_levels,
             ctypes.addressof(device), ctypes.addressof(staging), None)
        if device.value <= self._bytes[0] and staging.value <= self._bytes[1]:
            return
        self.close()
        wants = (device.value + device.value // 2, 2 * staging.value)  # some to spare: levels change their shares
        workspace, memory = self._workspace(*wants)
        handle = ctypes.c_void_p()
        call("fl_cascade_create", self.num_levels, ctypes.addressof(self._config), ctypes.addressof(workspace),
             ctypes.addressof(handle))
        self._handle, self._bytes, self._memory = handle.value, wants, memory

    def run(self, q, kv, out=None, lse=None, return_lse=False, sinks=None):
        """o [rows, num_qo_heads, head_dim], or (o, lse), of q over all levels' keys; kv as of Attention.run."""
        self._must_be_planned("run()")
        family, c = self.family, self.config
        if family_of(q) is not family or family.device(q) != self.device:
            refuse("q", f"on {family_of(q).device(q)}", f"must lie where the object was made ({self.device})")
        code = family.code(q, "q") if c.o_dtype is None else dtype_code(c.o_dtype, "o_dtype")
        shape = (q.shape[0], c.num_qo_heads, c.head_dim_vo or c.head_dim_qk)
        out = out_like(family, out, shape, code, self.device)
        if return_lse and lse is None:
            lse = family.empty(shape[:2], s.F32, self.device)
        slots, at, cache = tensors_and_cache(kv, self.layout, q=q, out=out)
        arguments = s.AttentionArguments(q=at[0], kv=cache, o=at[1])
        if lse is not None:
            arguments.lse_log2 = _flat(family, lse, "lse", shape[0] * shape[1], self.device)
        if sinks is not None:
            arguments.sinks = _flat(family, sinks, "sinks", c.num_qo_heads, self.device)
        stream = self._stream()
        if self._ids is not None and family.moved(stream, self._planned_on):
            self._plan(stream)
        call("fl_cascade_run", self._handle, ctypes.addressof(arguments), *self._given_ids(), self.num_levels, stream)
        del slots
        return (out, lse) if return_lse else out

    def _given_ids(self):
        n = self.num_levels
        return ((ctypes.c_void_p * n)(*[self.family.pointer(x) or None for x in self._ids]),
                (ctypes.c_int64 * n)(*[x.shape[0] for x in self._ids]))


class CUDAGraphMultiLevelCascadeAttention(MultiLevelCascadeAttention):
    """The same for CUDA graphs, within limits: a Limits for each level, whose max_nnz_qo is the same. plan(...) before each
    replay, which copies the page ids, from the host or the device; q, out and lse have max_nnz_qo rows, of which a batch has
    the first ones, and the others are left as they are."""

    def __init__(self, config: AttentionConfig, limits, like, kv_layout="NHD"):
        super().__init__(len(limits), config, like, kv_layout)
        self.limits, self._padded = [Limits(*level) for level in limits], PaddedRows()
        structs = [level.struct() for level in self.limits]
        most = (ctypes.c_void_p * self.num_levels)(*map(ctypes.addressof, structs))
        device, staging = ctypes.c_size_t(), ctypes.c_size_t()
        call("fl_cascade_graph_bytes", ctypes.addressof(self._config), most, self.num_levels, ctypes.addressof(device),
             ctypes.addressof(staging), None)
        self._bytes = device.value, staging.value
        workspace, self._memory = self._workspace(*self._bytes)
        handle = ctypes.c_void_p()
        call("fl_cascade_graph_create", self.num_levels, ctypes.addressof(self._config), most, ctypes.addressof(workspace),
             ctypes.addressof(handle))
        self._handle = handle.value

    def _reserve(self):
        """Nothing: a graph's memory is for all batches within its limits."""

    def _take_ids(self, paged_kv_indices_arr):
        self._ids = []
        for b, ids in zip(self._levels, paged_kv_indices_arr):
            owner = family_of(ids, "paged_kv_indices")
            ids = owner.dense(owner.int32(ids))
            b.page_ids, b.num_page_ids = owner.pointer(ids) or None, ids.shape[0]
            b.page_ids_on = s.GPU if owner.gpu(ids) else s.CPU
            self._ids.append(ids)

    def _given_ids(self):
        return None, None

    def run(self, q, kv, out=None, lse=None, return_lse=False, sinks=None):
        """As of the class above; of fewer rows than max_nnz_qo q is copied into an array that has so many."""
        rows = self.limits[0].max_nnz_qo
        if len(q.shape) != 3 or q.shape[0] >= rows:
            return super().run(q, kv, out, lse, return_lse, sinks)
        return self._padded(self.family, self.device, rows, q, out, lse, return_lse,
                            lambda padded_q: MultiLevelCascadeAttention.run(self, padded_q, kv, None, None, True, sinks))
