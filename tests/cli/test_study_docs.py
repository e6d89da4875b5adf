"""The pages that gsim makes itself, and the links between all pages. (What pages have one type: tests/docs.)"""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import gsim
from gsim.cli.entry import main
from gsim.report.columns import FILES, METRICS
from gsim.run.options import RUN_GROUPS, options

ROOT = Path(__file__).resolve().parents[2]


def test_every_option_of_a_run_is_used_somewhere():
    """In a test, an experiment or a page: an option that nobody ever sets is not known to do anything."""
    places = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("experiments/*.yaml"), *ROOT.glob("docs/*.md")]
    used = {word for place in places if place.name != "reference.md" for word in re.findall(r"\w+", place.read_text())}
    configs = [option.config for group in RUN_GROUPS for option in options(group).values() if option.config is not None]
    fields = {field.name for config in configs for field in dataclasses.fields(config) if field.init}
    assert len(fields) > 100
    assert fields - used == set()


def test_the_walk_through_names_what_there_is_in_ten_files():
    text = (ROOT / "docs" / "walkthrough.md").read_text()
    steps = text.partition("What runs these")[0]
    assert len(set(re.findall(r"`(gsim/[\w/]+\.py)`", steps))) == 10
    named = re.findall(r"`(gsim/[\w/]+\.py)`, `([\w.]+)`", steps)
    assert len(named) == 10
    for file, name in named:
        source = ast.parse((ROOT / file).read_text())
        for part in name.split("."):
            (source,) = [node for node in source.body if getattr(node, "name", "") == part]
    files = re.findall(r"`(gsim/[\w/]+\.py)`", text)
    assert all((ROOT / file).is_file() for file in files)


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert len(links) > 100
    for page, link in links:
        file, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / file if file else page
        assert target.exists(), f"{page}: {link}"
        headings = re.findall(r"^#+ (.*)", target.read_text(), flags=re.M) if heading else []
        anchors = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
        assert not heading or heading in anchors, f"{page}: {link}"


def test_the_report_is_one_page_and_in_markdown_a_page_of_verdicts_with_one_per_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=reproduce", "only=[latency_vs_batch]", "markdown=docs/reproduction.md"]
    (tmp_path / "docs").mkdir()
    assert main([*words, "further={latency_vs_batch: ['batch_sizes=[1,4]']}"]) == 0
    page = (tmp_path / "results" / "reproduce" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert 'src="http' not in page
    docs = tmp_path / "docs"
    verdicts = (docs / "reproduction.md").read_text()
    assert "([latency_vs_batch](reproduction/latency_vs_batch.md)) | seen here |" in verdicts
    text = (docs / "reproduction" / "latency_vs_batch.md").read_text()
    assert "`python -m gsim experiment=latency_vs_batch" in text
    (figure,) = re.findall(r"!\[latency_vs_batch\]\((.*)\)", text)
    assert (docs / "reproduction" / figure).stat().st_size > 10_000
    assert "](../reproduction.md)" in text


def test_an_experiment_that_fails_does_not_stop_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=reproduce", "only=[ema_estimation,predictor_accuracy,latency_vs_batch]"]
    further = "further={latency_vs_batch: ['batch_sizes=[1,4]'], ema_estimation: ['alphas=[7]']}"
    assert main([*words, further]) == 1
    said = capsys.readouterr().err
    assert "3 of 3: latency_vs_batch" in said
    assert "failed: ema_estimation" in said
    page = (tmp_path / "results" / "reproduce" / "report.html").read_text()
    assert "it needs train.path=FILE" in page
    assert page.count("data:image/png;base64,") == 1


def test_a_dry_run_of_the_reproduction_estimates_every_sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=reproduce", "only=[faults,latency_vs_batch,predictor_accuracy]", "--dry-run"]
    assert main([*words, "further={faults: ['trace.requests=30', 'seeds=1']}"]) == 0
    said = capsys.readouterr().out
    assert "faults: 7 cells, 7 runs: 0 stored, 7 to compute" in said
    assert "latency_vs_batch: a study of its own kind" in said
    assert "predictor_accuracy: not run here" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("page", "name"), [("options", "reference"), ("seams", "seams"), ("results", "results")])
def test_a_page_that_is_made_from_the_code_is_up_to_date(page, name, capsys):
    assert main(["reference", page]) == 0
    text = capsys.readouterr().out
    made = (ROOT / "docs" / f"{name}.md").read_text()
    assert text == made, f"run: python -m gsim reference {page} > docs/{name}.md"
    empty = [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert empty == [] or page == "seams", "these fields do not say what they mean: put a string under them"


def test_every_column_of_a_results_folder_is_explained(tmp_path):
    rows = [{"arrival_s": 0.1 * i, "prompt_tokens": 50, "output_tokens": 5, "session": i // 2} for i in range(8)]
    results = gsim.sweep({"router": ["random", "fastest"]}, seeds=2, trace=rows)
    swept = {"router"}
    assert set(results.runs.columns) - swept <= set(FILES["runs.csv"].columns)
    assert set(results.paired.columns) <= set(FILES["paired.csv"].columns)
    assert set(results.instances.columns) - swept <= set(FILES["instances.csv"].columns)
    assert set(results.requests.columns) - swept <= set(FILES["requests.parquet"].columns)
    assert len(METRICS.keys() & set(results.runs.columns)) > 60
