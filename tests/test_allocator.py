"""The allocator's setting holds in a process of its own: freed blocks are used again, without page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from nas_compress.allocator import keep_large_blocks
if sys.argv[1] == "keep" and not keep_large_blocks():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):  # the heap grows to what it needs
    torch.zeros(1 << 24).add_(1)
before = faults()
for _ in range(20):
    torch.zeros(1 << 24).add_(1)
print(faults() - before)
"""


def page_faults(mode):
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_large_blocks_are_used_again():
    assert page_faults("keep") < page_faults("default") / 2
