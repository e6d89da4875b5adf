"""A field more in ``Request``, with a default, breaks no trace: core values are built by name, not by place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_workload_formats import GOOD

from gsim.core import Status, entries


def test_every_trace_runs_with_a_further_defaulted_field(tmp_path: Path) -> None:
    files = {"servegen": str(tmp_path / "quantiles.csv")}
    Path(files["servegen"]).write_text(
        "field,q,tokens\ninput_tokens,0,5\ninput_tokens,1,50\noutput_tokens,0,5\noutput_tokens,1,50\n"
    )
    for name, (content, _, _) in GOOD.items():
        path = tmp_path / f"{name}.trace"
        path.write_text(content)
        files[name] = str(path)
    script = Path(__file__).with_name("request_with_a_field.py")
    environment = {**os.environ, "GSIM_PURE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(files)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        pytest.fail(done.stderr)
    found = json.loads(done.stdout)
    assert set(found) == set(entries("trace"))
    for name, status in found.items():
        assert status, name
        assert set(status) == {Status.FINISHED}, name
