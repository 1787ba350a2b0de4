"""The C library's allocator, told what a process full of large tensors wants of it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_LARGEST = 2**31 - 1
_BLOCK, _PAD = 2**30, 2**28


@cache
def keep_large_blocks() -> bool:
    """Let glibc reuse the memory of freed tensors; return whether this platform has the setting.

    By default every block above 32 MiB is mapped anew and handed back when it is freed, so that each activation of a
    large batch costs a page fault for every 4 KiB: a third of the time of BN recalibration. Blocks of up to 1 GiB then
    stay with the process, which keeps up to 2 GiB more than it uses.

    Source: mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    settings = ((_MMAP_THRESHOLD, _BLOCK), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
