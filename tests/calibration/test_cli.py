"""The command line, over real sockets: what people see when things go wrong, and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pytest
from fake_engine import CONFIG, FakeEngine, FakeServer

from gsim.calibration.__main__ import main
from gsim.calibration.raw import RawStore


@contextmanager
def listening(server_of: type[FakeServer] = FakeServer, **fields: object) -> Iterator[str]:
    """A fake server on a real socket, in a thread of its own; yields its URL."""
    ready, started = threading.Event(), []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            status, parts = await started[0].answer(head.split()[1], body)
            writer.write(f"HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode())
            async for part in parts:
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which is what the tests make it do
        finally:
            writer.close()

    async def serve() -> None:
        started.append(server_of(FakeEngine(lambda batch: 5e-4, api_s=0.0), **fields))
        stop = asyncio.Event()
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        started.extend([server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop])
        ready.set()
        async with server:
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{started[1]}"
    finally:
        started[2].call_soon_threadsafe(started[3].set)
        thread.join(10)


def arguments(url: str, out: object, *more: str) -> list[str]:
    config = os.path.join(str(out), "config.json")
    os.makedirs(str(out), exist_ok=True)
    with open(config, "w") as file:
        json.dump(CONFIG, file)
    grid = ["prefill_tokens=[32,64]", "prefill_contexts=[0]", "decode_batches=[1,2]", "decode_contexts=[64,96]"]
    limits = ["max_num_batched_tokens=512", "max_num_seqs=8", "max_concurrency=4", "window_tokens=4", "injections=1"]
    return ["measure", f"url={url}", "gpu=test", f"out={out}", f"model_config={config}", *grid, *limits, *more]


def test_a_small_campaign_over_http(tmp_path, capsys):
    with listening() as url:
        assert main(arguments(url, tmp_path, "checks=0", "min_repeats=2", "max_repeats=2")) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# Fit of test-fake-model")
    assert "measurements of" in captured.err
    assert (tmp_path / "profile.yaml").exists()
    assert main(["report", f"out={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith("# Fit of test-fake-model")


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(tmp_path):
    with listening() as url:
        command = [
            sys.executable,
            "-m",
            "gsim.calibration",
            *arguments(url, tmp_path, "max_repeats=10000", "tight=1e-9"),
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        journal = tmp_path / "measurements.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (journal.exists() and journal.read_text().count("\n") > 3):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = RawStore(tmp_path).read()
    assert len(kept) > 3
    assert f"{len(kept)} measurements are kept" in talk
    assert "Traceback" not in talk
    assert len(pd.read_parquet(tmp_path / "raw.parquet")) == len(kept)


def test_a_server_that_is_down(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(arguments(f"http://127.0.0.1:{port}", tmp_path)) == 2
    assert "no server answers there" in capsys.readouterr().err


def test_a_server_that_is_no_model_server(tmp_path, capsys):
    class Other(FakeServer):
        async def answer(self, path, body):
            return await super().answer("/nothing", body)

    with listening(Other) as url:
        assert main(arguments(url, tmp_path)) == 2
    assert "HTTP 404: not an OpenAI-compatible server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["measure", "gpu=x"], "missing: url=..."),
        (["measure", "url=http://x", "gpu=x", "speed=3"], "there is no option 'speed'; there are: url, gpu, out"),
        (["measure", "url=http://x", "gpu=x", "seed=many"], "seed must be a whole number, not 'many'"),
        (["measure", "url=x", "gpu=x"], "url must be http://HOST:PORT, not x"),
        (["measure", "url=http://x", "gpu=x", "tight=2"], "tight must be in (0, 1), not 2.0"),
        (["measure", "--fast"], "'--fast' is no option; options are: url=..., gpu=..., out=..."),
        (["measure", "url=http://x", "gpu=x", "seed=1", "seed=2"], "seed is given twice"),
        (
            ["measure", "url=http://x", "gpu=x", "decode_batches=[1,b]"],
            "decode_batches must be a whole number, not 'b'",
        ),
        (["mesure"], "unknown command 'mesure'; there are: measure, fit, report, validate, judge, scale"),
        (["validate", "url=http://x", "requests=3"], "requests must be at least 10"),
        (["fit", "out=/nowhere/at/all"], "run measure first"),
    ],
)
def test_bad_options_are_named_before_anything_starts(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_help_lists_every_option_with_its_meaning(capsys):
    assert main(["measure", "--help"]) == 0
    text = capsys.readouterr().out
    assert "url (required)" in text
    assert "max_concurrency = 32\n    Sequences in flight at most, ever." in text
    assert main(["--help"]) == 0
    assert "python -m gsim.calibration validate" in capsys.readouterr().out
