"""What docs/live.md has its reader type to see a move is typed here, on free ports and at four times real time."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "live.md").read_text(encoding="utf-8")


def commands():
    """The commands of the section, word by word; a command goes on while a line ends with a backslash or in quotes."""
    section = PAGE.split("### A move, as its client sees it\n")[1].split("\n## ")[0]
    text = re.sub(r"\\\n", " ", "\n".join(re.findall(r"^    (.*)$|^$", section, flags=re.M)))
    found, held = [], ""
    for line in text.splitlines():
        held = f"{held}\n{line}" if held else line
        if held.count("'") % 2 == 0:
            found += [shlex.split(held)] if held.strip() else []
            held = ""
    return found


def posted(words):
    """A curl command of the page as a request: address, headers, body."""
    headers = dict(word.split(": ", 1) for flag, word in itertools.pairwise(words) if flag == "-H")
    url = next(word for word in words if word.startswith("http://"))
    return url, headers, json.loads(words[words.index("-d") + 1])


@pytest.fixture
def start(tmp_path):
    """Start a command of the page; what it says when it is ready."""
    running = []

    def started(words):
        command = [sys.executable, *words[1:], "port=0", "speed=4"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        running.append(process)
        for line in process.stdout:
            if line.startswith("ready: "):
                return line.removeprefix("ready: ").strip()
        raise AssertionError(f"{command} has ended")

    yield started
    for process in reversed(running):
        process.terminate()
        process.wait(10)
        process.stdout.close()


def post(url, body, headers=None):
    return urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers or {}), timeout=30)


@pytest.mark.parametrize(("fault", "by", "said"), [(0, "risk_monitor", "moves"), (1, "none", "tries")])
def test_words_go_on_when_their_server_does_not(fault, by, said, start, tmp_path):
    emulate, serve, ask, *faults = commands()
    backends = start([word for word in emulate if not word.startswith("port=")]).removeprefix("backends=")
    asked = [word for word in serve if not word.startswith(("backends=", "rectifier="))]
    gateway = start([*asked, f"backends={backends}", f"rectifier={by}"])
    _, headers, body = posted(ask)
    _, _, kind = posted(faults[fault])
    with post(f"{gateway}/v1/completions", body, headers) as stream:
        events = [stream.readline() for _ in range(20)]
        post(f"{backends[1:-1].split(',')[0]}/faults", kind).close()
        events += stream.readlines()
    told = [json.loads(line[6:]) for line in events if line.startswith(b"data: {")]
    assert len({each["id"] for each in told}) == 1
    text = "".join(choice["text"] for each in told for choice in each["choices"])
    assert len(text.split()) == body["max_tokens"]
    assert told[-1]["choices"][0]["finish_reason"] == "length"
    assert events[-2] == b"data: [DONE]\n"
    (row,) = map(json.loads, (tmp_path / "served" / "requests.jsonl").open())
    assert row[said] == {"moves": 1, "tries": 2}[said]
    assert f'"{said}":{row[said]}' in PAGE
