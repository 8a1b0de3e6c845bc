"""Memory that every step needs again."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the settings, as the C library's malloc.h numbers them."""
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep freed memory, so that the next step need not ask the system for it; whether it could.

    By default the GNU C library hands large tensors back as soon as they are freed, and gets every page anew, cleared,
    when the next step makes them. On a CPU that is a good part of a step's time. The process keeps what its largest
    step needed until it ends. Other C libraries are left as they are.

    Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(setting, LARGEST) for setting in (TRIM_THRESHOLD, MMAP_THRESHOLD))
