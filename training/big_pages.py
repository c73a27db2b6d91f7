"""Memory for training on a CPU: big pages, kept for the next step instead of given back.

Tensors of a step are megabytes, which glibc takes from the kernel and gives back every time: the
kernel then zeroes thousands of pages a step.
"""

import os
import platform
import sys

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = ":".join(
    f"glibc.malloc.{name}"
    for name in ("hugetlb=1", f"mmap_threshold={2**32}", f"trim_threshold={2**33}")
)


def restart_with_big_pages() -> None:
    """Start this program again with glibc told so, which it reads at a program's start alone.

    Does nothing where there is no glibc, or where the variable is set already.
    """
    if platform.libc_ver()[0] != "glibc" or VARIABLE in os.environ:
        return
    sys.stdout.flush()
    environment = {**os.environ, VARIABLE: TUNABLES}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
