"""Every command and snippet of the README and of the pages for users runs; the commands of all pages compose."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from gsim.cli.compose import compose, hydra_session, register_schema
from gsim.cli.entry import main
from gsim.run.options import RUN_GROUPS, options

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["seeds=2", "trace.requests=30", "warmup_s=0", "hydra.launcher.n_jobs=1"]
ONE_RATE = ["trace.rate_per_s=60", "router=goodserve,least_load,random"]
POLICIES = ["seeds=1", "trace.requests=30", "warmup_s=0", "resolution=0.5"]


def commands(page):
    """Indented lines that call gsim, without their comments; files, long reports and clusters left out."""
    found = []
    for line in (ROOT / page).read_text().splitlines():
        text = line.strip().partition("  #")[0].strip()
        if line.startswith("    python -m gsim ") or line.strip() == "python -m gsim":
            words = shlex.split(text)[3:]
            if not any(word in ("experiment=reproduce", "hydra/launcher=ray") for word in words) and not (
                "FILE" in text or "--dry-run" in text
            ):
                found.append(words)
    return found


def lay_out(page, folder):
    """The page's snippets as the files that it says they are (in their first line, or as the README's text says)."""
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    for i, (kind, text) in enumerate(blocks):
        named = re.match(r"# (\w+/[\w-]+\.\w+)\n", text)
        if named:
            place = folder / named[1]
        elif kind == "python" and "@register" in text:
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
    if (words[:1] == ["compare"] and words[1].startswith("results/")) or words[:1] == ["--help"]:
        return words
    given = {word.partition("=")[0] for word in words}
    extra = [word for word in SMALL if word.partition("=")[0] not in given - {"seeds"}]
    if "experiment=goodput_vs_rps" in words:
        extra += [*ONE_RATE, "until_s=3", "drain_s=1"]
    if any("knee" in word for word in words):
        extra.append("knee.resolution=0.4")
    words = [word for word in words if not word.startswith("seeds=")]
    return [*words, *extra]


@pytest.mark.parametrize("page", ["README.md", "docs/studies.md", "docs/tutorial.md", "docs/howto.md"])
def test_every_command_of_a_page_runs(page, tmp_path, empty_folder):
    lay_out(page, tmp_path)
    found = commands(page)
    assert len(found) >= 4
    for words in found:
        assert main(small(words)) == 0, words


def test_every_command_of_every_page_composes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    found = {}
    for page in sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reproduction").glob("*.md")]):
        for line in re.findall(r"(?:^    |`)python -m gsim ([^`#\n]*)", page.read_text(), flags=re.M):
            words = [word for word in shlex.split(line) if not word.startswith("-")]
            own = any(name in line for name in ("mine", "deadlines", "two_sizes", "my_study", "my-gpu", "reference"))
            if words and all("=" in word for word in words) and not own:
                found[" ".join(words)] = words
    assert len(found) > 30
    register_schema()
    with hydra_session() as hydra:
        for words in found.values():
            compose(hydra, words)


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
    assert "([latency_vs_batch](reproduction/latency_vs_batch.md)) | confirmed |" in verdicts
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


def test_the_reference_page_is_up_to_date(capsys):
    assert main(["reference"]) == 0
    page = capsys.readouterr().out
    assert page == (ROOT / "docs" / "reference.md").read_text(), "run: python -m gsim reference > docs/reference.md"
    empty = [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert empty == [], "these fields do not say what they mean: put a string under them"
