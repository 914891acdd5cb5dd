"""Arguments that FlashInfer takes and that change nothing here, each with what became of it.

docs/python.md prints this list, and `explain()` of a wrapper those of its arguments that were off their defaults. Whatever is
not in this list takes effect, or is refused.
"""
from .._library import refuse

HINTS = {
    "use_tensor_cores": "the library takes tensor cores wherever they are faster",
    "non_blocking": "plan() never waits for its copy, and a plan under way is never overwritten",
    "float_workspace_buffer": "says the device and the kind of array; plans and partial results lie in memory of the "
                              "wrapper's own, so that wrappers may share the buffer. Its size is the most that copies may "
                              "take which only make things faster",
    "int_workspace_buffer": "not needed: plans lie in memory of the wrapper's own",
    "workspace_buffer": "used where it is large enough; else the thread keeps memory of its own",
    "semaphores": "not needed",
    "multi_ctas_kv_counter_buffer": "not needed",
    "enable_pdl": "off: with it the kernel before run() must not write page ids, which nobody here can promise",
    "sm_count": "all SMs are used",
    "use_profiler": "the library has no profiler inside its kernels; docs/profiling.md says what there is",
    "profiler_buffer": "as use_profiler",
    "use_fp16_qk_reduction": "products are summed in f32, which is more exact",
    "use_fp16_softmax": "the softmax is computed in f32, which is more exact",
    "seq_lens": "the page lists say the same",
    "seq_lens_q": "qo_indptr says the same",
    "block_tables": "the page lists say the same",
    "max_token_per_sequence": "qo_indptr says it",
    "max_sequence_kv": "the page lists say it",
    "uniform_q_len": "qo_indptr says it",
    "max_item_len_ptr": "token_pos_in_items_ptr says it",
    "max_q_len": "cum_seq_lens_q says it",
    "cum_seq_lens_kv": "seq_lens says it",
    "is_cuda_graph_compatible": "a decode always is, a prefill where its lengths stay on the device",
    "backend": "fa2 and fa3 are the library's own prefill kernels on the GPU; every other name, and every name on the CPU or "
               "of a decode, is auto",
    "qk_nope_head_dim": "bmm1_scale has it in it",
    "is_var_seq": "lengths are those of seq_lens",
    "cute_dsl_impl": "the library has kernels of its own",
    "kv_scale_format": "of packed rows with scales in them, which are refused",
    "variant": "there is nothing to prewarm: no code is compiled at run time",
    "qo_indptr_buf": "of a graph: its size is the largest batch; plan() writes the wrapper's own memory",
    "paged_kv_indptr_buf": "as qo_indptr_buf",
    "kv_indptr_buf": "as qo_indptr_buf",
    "paged_kv_last_page_len_buf": "as qo_indptr_buf",
    "paged_kv_indices_buf": "of a graph: its size is the most page ids; plan() copies them into the wrapper's own memory",
    "mask_indptr_buf": "not needed: masks lie one after the other",
    "q_len_per_req of run()": "must be what was planned",
}


def must_be(name, value, default, why):
    """Refuses an argument of a feature that there is none of."""
    plain = isinstance(value, (int, float, str, bool, tuple))  # an array is never a default, and == of one is an array
    if value is not None and value is not default and not (plain and value == default):
        refuse(name, value if isinstance(value, (int, float, str, bool)) else type(value).__name__, why)


NO_NVFP4 = "must be None: nvfp4 keys and values are not computed"
NO_SKIP = "must be None: no softmax is skipped here"


def refuse_foreign(kv_cache_sf=None, skip_softmax_threshold_scale_factor=None, uses_spcompress=None, jit_args=None,
                   jit_kwargs=None, **scales):
    """Refuses what only kernels of other architectures compute."""
    must_be("kv_cache_sf", kv_cache_sf, None, NO_NVFP4)
    must_be("skip_softmax_threshold_scale_factor", skip_softmax_threshold_scale_factor, None, NO_SKIP)
    must_be("uses_spcompress", uses_spcompress, None, "must be None: keys are not compressed here")
    must_be("jit_args", jit_args, None, "must be None: no code is compiled at run time")
    must_be("jit_kwargs", jit_kwargs, None, "must be None: no code is compiled at run time")
    for name, value in scales.items():
        must_be(name, value, None, "must be None: there is no such scale here")


def layout_of(kv_layout):
    if kv_layout not in ("NHD", "HND"):
        refuse("kv_layout", kv_layout, "must be NHD or HND")
    return kv_layout


def number(x):
    """A scale as a float; a tensor of one element on the GPU costs a wait."""
    return 1.0 if x is None else float(x)
