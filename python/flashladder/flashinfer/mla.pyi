# Written by tools/python_stubs.py. An Array is one of torch, numpy, cupy or jax.
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

Array = Any
DType = Any
Cache = Union[Array, Tuple[Array, Array]]

class BatchMLAPagedAttentionWrapper:
    def __init__(self, *arguments: Any, **names: Any) -> None: ...

def trtllm_batch_decode_with_kv_cache_mla(*arguments: Any, **names: Any) -> Union[Array, Tuple[Array, Array]]: ...

def xqa_batch_decode_with_kv_cache_mla(*arguments: Any, **names: Any) -> Union[Array, Tuple[Array, Array]]: ...
