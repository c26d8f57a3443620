"""Runs test modules as processes: sanitizers end a process, and Triton reads its mode at import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run_child(module, *arguments, environ=None, timeout_s=100):
    """Returns what ``python -m module`` printed; fails the test with its output if it failed."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    path = os.pathsep.join(str(ROOT / part) for part in (".", "kernels", "controller"))
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if result.returncode:
        printed = f"{result.stdout[-4000:]}\n{result.stderr[-8000:]}"
        pytest.fail(f"{module} ended with {result.returncode}\n{printed}", pytrace=False)
    return result.stdout
