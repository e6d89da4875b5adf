"""Run a Python module on the machine's last core: ``python on_last_core.py -m MODULE ARGUMENTS``.

The engine under test computes on the first core; a client beside it must not take its turns.
"""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] != "-m":
        sys.exit("usage: on_last_core.py -m MODULE [ARGUMENTS]")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
