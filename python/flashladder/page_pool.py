"""Which pages a request has: numbers only, keys and values are the caller's."""
import ctypes

from . import _structs as s
from ._library import call, lib

__all__ = ["PageCopy", "PagePool"]


class PageCopy:
    """What fork() asks for: entries 0 .. entries - 1 of page `source` to page `destination`; entries 0: nothing."""

    def __init__(self, source, destination, entries):
        self.source, self.destination, self.entries = source, destination, entries


class PagePool:
    """num_pages pages of page_size tokens, which requests take and give back; shared pages are counted.

    shuffle_seed gives pages out in a random order, as a server's pool does after a while.
    """

    def __init__(self, num_pages, page_size, shuffle_seed=None):
        self._handle = None
        handle = ctypes.c_void_p()
        seed = ctypes.c_uint64(shuffle_seed) if shuffle_seed is not None else None
        call("fl_page_pool_create", num_pages, page_size, ctypes.addressof(seed) if seed is not None else None,
             ctypes.addressof(handle))
        self._handle, self.page_size = handle.value, page_size

    def __del__(self):
        if self._handle is not None:
            lib.fl_page_pool_destroy(self._handle)

    def _number(self, name, *arguments):
        out = ctypes.c_int32()
        call(name, self._handle, *arguments, ctypes.addressof(out))
        return out.value

    def add_request(self):
        """A new request without pages: its number."""
        return self._number("fl_page_pool_add_request")

    def append(self, request, tokens):
        """Room for more tokens; pages are taken where the last one is full."""
        call("fl_page_pool_append", self._handle, request, tokens)

    def fork(self, request, tokens):
        """A new request that shares the first `tokens` tokens: (its number, PageCopy)."""
        number, copy = ctypes.c_int32(), s.PageCopy()
        call("fl_page_pool_fork", self._handle, request, tokens, ctypes.addressof(number), ctypes.addressof(copy))
        return number.value, PageCopy(copy.source, copy.destination, copy.entries)

    def remove(self, request):
        """Gives the request's pages back, where nobody else has them."""
        call("fl_page_pool_remove", self._handle, request)

    def length(self, request):
        """Tokens of a request."""
        return self._number("fl_page_pool_length", request)

    def free_pages(self):
        """Pages that nobody has."""
        return self._number("fl_page_pool_free_pages")

    def table(self, requests=None):
        """(indptr, indices, last_page_len) of some requests in their order, or of all: numpy int32, copies."""
        import numpy
        lists = s.PageLists()
        chosen = (ctypes.c_int32 * len(requests))(*requests) if requests is not None else None
        call("fl_page_pool_table", self._handle, ctypes.addressof(chosen) if chosen is not None else None,
             len(requests) if requests is not None else 0, ctypes.addressof(lists))

        def copy(pointer, count):
            out = numpy.empty(count, numpy.int32)
            if count:
                ctypes.memmove(out.ctypes.data, pointer, 4 * count)
            return out

        return (copy(lists.indptr, lists.batch + 1), copy(lists.indices, lists.num_indices),
                copy(lists.last_page_len, lists.batch))
