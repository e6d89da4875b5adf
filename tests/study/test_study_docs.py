"""Every command and snippet of the README and of the page on studies runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gsim.core import registry
from gsim.study.entry import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["seeds=2", "trace.requests=30", "warmup_s=0", "hydra.launcher.n_jobs=1"]
ONE_RATE = ["trace.rate_per_s=60", "router=goodserve,least_load,random"]
POLICIES = ["seeds=1", "trace.requests=30", "warmup_s=0", "resolution=0.5"]


def commands(page):
    """Indented or fenced lines that call gsim, without their comments; files and long reports left out."""
    found = []
    for line in (ROOT / page).read_text().splitlines():
        text = line.strip().partition("  #")[0].strip()
        if line.startswith("    python -m gsim ") or line.strip() == "python -m gsim":
            words = shlex.split(text)[3:]
            if not any("FILE" in word or word == "experiment=reproduce" or "--" in word for word in words):
                found.append(words)
    return found


def lay_out(page, folder):
    """The page's snippets as the files that it says they are."""
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    for i, (kind, text) in enumerate(blocks):
        if kind == "python" and "@register" in text:
            place = folder / "extensions" / f"snippet_{i}.py"
        elif kind == "yaml":
            place = folder / ("profiles/my-gpu.yaml" if "memory_gb" in text else "experiments/my_study.yaml")
        else:
            continue
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)


def small(words):
    """The command with less to do."""
    if "experiment=capacity" in words:
        return [*(w for w in words if not w.startswith("policies")), *POLICIES, "policies=[random]", "targets=[0.5]"]
    if words[:1] == ["compare"] and words[1].startswith("results/"):
        return words
    given = {word.partition("=")[0] for word in words}
    extra = [word for word in SMALL if word.partition("=")[0] not in given - {"seeds"}]
    if "experiment=goodput_vs_rps" in words:
        extra += ONE_RATE
    words = [word for word in words if not word.startswith("seeds=")]
    return [*words, *extra]


@pytest.mark.parametrize("page", ["README.md", "docs/studies.md"])
def test_every_command_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(page, tmp_path)
    found = commands(page)
    assert len(found) >= 4
    try:
        for words in found:
            assert main(small(words)) == 0, words
    finally:
        for names in registry._ENTRIES.values():
            for name in [n for n, entry in names.items() if entry.cls.__module__.startswith("gsim_extension_")]:
                del names[name]


def test_the_report_is_one_page_with_its_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=reproduce", "only=[latency_vs_batch]", "markdown=docs/reproduction.md"]
    (tmp_path / "docs").mkdir()
    assert main([*words, "further={latency_vs_batch: ['batch_sizes=[1,4]']}"]) == 0
    page = (tmp_path / "results" / "reproduce" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert 'src="http' not in page
    text = (tmp_path / "docs" / "reproduction.md").read_text()
    assert "python -m gsim experiment=latency_vs_batch" in text
    assert (tmp_path / "docs" / "figures" / "latency_vs_batch-latency_vs_batch.png").exists()
