"""A plug-in in Python that misbehaves: the environment says how. Where it gets as far as a result, it is the right one for
the one shape that it takes, a single key."""
import ctypes
import os
import signal
import sys
import threading
import time

import numpy as np

KIND = os.environ.get("FLASHLADDER_TEST_PLUGIN", "")
runs = 0

if KIND == "crashes at once":
  os.abort()
if KIND == "fails at once":
  {}["no such key"]
if KIND == "lacks a module":
  import there_is_no_such_module


def supports(shape):
  if KIND == "supports raises":
    raise OverflowError("too much")
  if KIND == "says False":
    return False
  return None if shape.qo_lens == [1] and shape.kv_lens == [1] and KIND != "says no" else "only one query and one key"


def attend(q, k_cache, v_cache, pages, sm_scale):
  k, v = (np.repeat(cache[pages[0], 0], q.shape[1] // cache.shape[2], axis=0) for cache in (k_cache, v_cache))  # [heads, d]
  return v[None].copy(), ((q[0] * k).sum(-1) * sm_scale / np.log(2))[None].astype(np.float32)


def attention(q, k_cache, v_cache, paged_kv_indices, sm_scale, **rest):
  global runs
  runs += 1
  if KIND == "raises":
    raise ValueError("out of luck")
  if KIND == "recurses":
    return attention(q, k_cache, v_cache, paged_kv_indices, sm_scale)
  if KIND == "hangs with a note":
    open("hanging", "w").close()
    time.sleep(1000)
  if KIND == "hangs":
    time.sleep(1000)
  if KIND == "leaves a thread running":
    threading.Thread(target=time.sleep, args=(1000,)).start()
  if KIND == "exits":
    os._exit(0)
  if KIND == "exits politely":
    sys.exit(3)
  if KIND == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
  o, lse_log2 = attend(q, k_cache, v_cache, paged_kv_indices, sm_scale)
  if KIND == "changes q":
    q *= 2
  if KIND == "changes the cache":
    np.nan_to_num(k_cache, copy=False, nan=0.0)  # the unused slots, which no token needs
  if KIND == "changes the page table":
    paged_kv_indices[0] += 1
  if KIND == "writes behind q":
    ctypes.memset(q.ctypes.data + q.nbytes, 0, 4)
  if KIND == "writes behind all":
    np.frombuffer(q.base.base, np.uint8)[-1] = 0  # of the memory in which all arrays lie
  if KIND == "gives NaN":
    o[0, 0, 0] = np.nan
  if KIND == "gives NaN in lse":
    lse_log2[0, 0] = np.nan
  if KIND == "counts its runs":
    o += runs - 1
  if KIND == "returns o alone":
    return o
  if KIND == "returns another shape":
    return o[:, :, :-1], lse_log2
  return o, lse_log2
