"""Freed memory is kept where the C library can be told to."""

import platform
import resource
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
from musenet.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    np.ones(64 * 2**20 // 8)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_of_steps(how: str) -> int:
    """Pages that four steps of 64 MiB each got from the system, after a first one."""
    ended = subprocess.run([sys.executable, "-c", STEPS, how], check=True, capture_output=True, text=True)
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library alone can be told")
def test_a_step_gets_no_pages_that_the_step_before_had():
    one = 64 * 2**20 // resource.getpagesize()
    assert pages_of_steps("keep") < one / 10
