"""Noticing that another program took the server's core."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from gsim.calibration.cores import CoreWatch
from gsim.core import ConfigError

SPIN = "import os,sys,time; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


@pytest.fixture
def spinning():
    """Starts processes that want all of one core; ends them afterwards."""
    started = []
    core = sorted(os.sched_getaffinity(0))[-1]

    def start() -> int:
        process = subprocess.Popen([sys.executable, "-c", SPIN, str(core)], stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_shared_core_shows(spinning):
    watch = CoreWatch(spinning())
    spinning()
    watch.start()
    time.sleep(0.5)
    # Two programs that want all of one core wait half of the time, each; a busy machine only adds to it.
    assert watch.waited() > 0.3


def test_children_are_watched_too(spinning):
    spinning()
    spinning()
    watch = CoreWatch(os.getpid())
    watch.start()
    time.sleep(0.5)
    # This process sleeps: it is a child that ran, and waited for the other one.
    assert watch.waited() > 0.3
    assert max(run for run, _ in watch.threads().values()) > 5e7


def test_a_process_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="there is no process 999999999"):
        CoreWatch(999999999)
