"""The cache of compiled kernels: it holds until a kernel is changed, wherever that one is."""

import os
import subprocess
import sys
from pathlib import Path

CALLER = """
from chemnet.runtime.compilation import cached_njit
from callee import kernel

@cached_njit()
def f():
    return kernel()
"""
CALLEE = "from numba import njit\n\n\n@njit()\ndef kernel():\n    return {}\n"
COUNT = "import caller; print(caller.f(), sum(caller.f.stats.cache_hits.values()))"


def called(folder: Path) -> str:
    """What the cached function returns in a new process, and how often it was found in the cache."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, "-c", COUNT]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_kernel_of_another_file_that_changes_is_compiled_anew(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "callee.py").write_text(CALLEE.format(1))
    assert called(tmp_path) == "1 0"
    assert called(tmp_path) == "1 1"
    (tmp_path / "callee.py").write_text(CALLEE.format(2))
    assert called(tmp_path) == "2 0"
