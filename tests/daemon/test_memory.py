"""What the C library does with memory that threads free."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import threading
from pathlib import Path
from logflume.daemon.memory import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def burst(kept):
    made = [bytearray(2000) for _ in range(20_000)]
    kept.append(bytearray(2000))  # at the end of this thread's heap

kept = []
for _ in range(4):
    thread = threading.Thread(target=burst, args=(kept,))
    thread.start()
    thread.join()
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_thread_freed_below_something_that_is_kept_is_given_back() -> None:
    # a process of its own: what others freed here would count
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, text=True, timeout=60)
    assert float(done.stdout) > 20
