"""Workers of a sweep in a script: they end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import gsim

gsim.sweep({"router": ["random", "round_robin"]}, seeds=200, workers=2, trace={"requests": 2000}, out="kept")
"""


def _below(pid: int) -> set[int]:
    """The processes that this one has started, and those that these have."""
    found = {pid}
    while True:
        children: set[int] = set()
        for one in found:
            for tasks in Path(f"/proc/{one}/task").glob("*/children"):
                children |= {int(child) for child in tasks.read_text().split()}
        if children <= found:
            return found - {pid}
        found |= children


def _goes_on(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_workers_end_with_a_script_that_is_killed(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "GSIM_PURE": "1"}
    script = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env, start_new_session=True)
    try:
        end_s = time.monotonic() + 120
        while len(list((tmp_path / "kept").glob("runs/*.parquet"))) < 2 and time.monotonic() < end_s:
            time.sleep(0.1)
        workers = _below(script.pid)
        assert len(workers) >= 2
        script.send_signal(signal.SIGKILL)
        script.wait(60)
        while any(map(_goes_on, workers)) and time.monotonic() < end_s:
            time.sleep(0.1)
        assert not any(map(_goes_on, workers))
    finally:
        script.kill()
        script.wait()
