"""README and tutorial work to the letter: what they have one write, run and type, in order, in an empty folder.

Commands run in this process, by the function that the shell calls, and on one core. One that the page says takes
minutes is composed. The pages for users are run with fewer requests; of all others the commands compose.
"""

from __future__ import annotations

import re
import shlex

import pytest
from pages import ROOT, steps, write

from gsim.cli.compose import compose, groups, hydra_session, register_schema
from gsim.cli.entry import main
from gsim.core import registry
from gsim.study import figure
from gsim.study.experiments import read_experiments

HERE = ["hydra.launcher.n_jobs=1"]
#: Fewer requests for pages that are about something else than results.
FEW = {"seeds": "2", "trace.requests": "20", "warmup_s": "0"}
#: Studies with a way of their own to an answer, which takes time; each has tests of its own. So has the knee.
OWN_WAY = (
    *("experiment=capacity", "experiment=cheapest_pool", "experiment=reproduce", "experiment=router_scalability"),
    "hydra/launcher=ray",
)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for names in registry._ENTRIES.values():
        for name in [n for n, entry in names.items() if entry.cls.__module__.startswith("gsim_extension_")]:
            del names[name]


def composes(words):
    register_schema()
    with hydra_session() as hydra:
        compose(hydra, words)


def on_one_core(words):
    runs = not any(
        word.startswith("--") or word in ("explain", "check", "timeline", "page", "report") for word in words
    )
    between = words[:1] == ["compare"] and words[1].startswith("results/")
    return [*words, *HERE] if runs and not between else words


def test_readme_and_tutorial_work_as_they_are_typed(empty_folder, capsys):
    typed = set()
    for page in ("README.md", "docs/tutorial.md"):
        found = steps(page)
        assert len(found) > 8
        for step in found:
            if step.kind == "write":
                write(step, empty_folder)
            elif step.kind == "run":
                exec(compile(step.text, page, "exec"), {"__name__": "__main__"})
            elif step.minutes:
                composes(step.words)
            elif step.text not in typed:
                assert main(on_one_core(step.words)) == 0, (step.text, capsys.readouterr().err)
                typed.add(step.text)
    assert (empty_folder / "results" / "around" / "paired.csv").exists()
    assert (empty_folder / "results" / "mine_vs_goodserve" / "findings.txt").exists()


def few(words):
    """The command with less to do."""
    if (words[:1] == ["compare"] and words[1].startswith("results/")) or words[:1] in (
        ["--help"],
        ["check"],
        ["report"],
    ):
        return words
    kept = [word for word in words if word.partition("=")[0] not in ("seeds", "trace.requests", "trace.duration_s")]
    extra = [f"{name}={value}" for name, value in FEW.items()]
    if "experiment=goodput_vs_rps" in words:
        extra += ["trace.rate_per_s=60", "router=goodserve,least_load,random", "until_s=2", "drain_s=1"]
    return on_one_core([*kept, *extra])


@pytest.mark.parametrize("page", ["docs/howto.md", "docs/studies.md", "docs/library.md", "docs/scaling.md"])
def test_the_commands_and_snippets_of_the_pages_for_users_run(page, empty_folder, monkeypatch, capsys):
    monkeypatch.setattr(figure, "save", lambda drawn, stem: [])
    names = {"__name__": "__main__"}
    for step in steps(page):
        if step.kind == "write":
            write(step, empty_folder)
        elif step.kind == "run":
            exec(compile(step.text, page, "exec"), names)
        elif step.placeholder or step.minutes or "--dry-run" in step.text:
            continue
        elif any(word in OWN_WAY for word in step.words) or "knee" in step.text:
            composes([word for word in step.words if "ray" not in word])
        else:
            assert main(few(step.words)) == 0, (step.text, capsys.readouterr().err)


def test_the_commands_of_all_pages_compose(empty_folder):
    (empty_folder / "FILE").write_text("")
    known = set(read_experiments(set(groups())))
    found = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text()
        of_its_own = re.findall(r'@register\("\w+", "([\w-]+)"\)', text)
        for line in re.findall(r"(?:^    |`)python -m gsim ([^`#\n]*)", text, flags=re.M):
            words = [word for word in shlex.split(line) if not word.startswith("-")]
            own = any(name in line for name in ("mine", "deadlines", "two_sizes", "my_study", "my-gpu", "reference"))
            own = own or any(f"={name}" in line for name in of_its_own)
            if words and all("=" in word for word in words) and not own:
                found[" ".join(words)] = words
    assert len(found) > 30
    # One word says an experiment by name: tests of experiments compose them all.
    alone = [words[0].partition("=")[2] for words in found.values() if len(words) == 1 and "experiment=" in words[0]]
    assert set(alone) <= known
    register_schema()
    with hydra_session() as hydra:
        for words in found.values():
            if len(words) > 1 or not words[0].startswith("experiment="):
                compose(hydra, words)
