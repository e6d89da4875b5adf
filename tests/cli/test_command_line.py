"""What is typed is what is meant: text, unknown keys, names, broken files of one's own, folders with odd names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import main
from gsim.cli.words import as_given
from gsim.core import ConfigError, InputError, ProfileError
from gsim.core.plain_yaml import read_plain_yaml
from gsim.latency.fields import read_yaml
from gsim.report import load
from gsim.study.experiments import read_experiment

ONE_WORKER = "hydra.launcher.n_jobs=1"
SMALL = ["trace.requests=5", "trace.rate_per_s=50", "warmup_s=0", "seeds=1", "hydra.launcher.n_jobs=1"]


pytestmark = pytest.mark.usefixtures("empty_folder")


def composed(*words):
    register_schema()
    given = as_given(words)
    with hydra_session() as hydra:
        config, multirun = compose(hydra, given)
        if not multirun:
            return [plain(config)]
        return [cell.settings.plain() for cell in grid(hydra, config, given).cells]


def test_text_is_what_the_shell_gave():
    texts = ["données.csv", "1e3", "007", "my file (1).csv", "a:b=c.csv", "x$y.csv", "it's.csv"]
    for text in texts:
        (values,) = composed("trace=azure", f"trace.path={text}", f"name={text}")
        assert (values["trace"]["path"], values["name"]) == (text, text)
    cells = composed("trace=azure", f"trace.path={','.join(texts)}")
    assert [cell["trace"]["path"] for cell in cells] == texts
    Path("a,b.csv").write_text("")
    assert composed("trace=azure", "trace.path=a,b.csv")[0]["trace"]["path"] == "a,b.csv"
    assert composed("trace=azure", "trace.path='q,r.csv'")[0]["trace"]["path"] == "q,r.csv"


def test_paths_on_the_command_line_are_a_grid(capsys):
    for name in ("a.csv", "ä 1.csv"):
        Path(name).write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,374,44\n")
    assert main(["trace=azure", "trace.path=a.csv,ä 1.csv", "seeds=1", "--dry-run", ONE_WORKER]) == 0
    assert "2 cells, 2 runs" in capsys.readouterr().out


def test_numbers_are_written_as_numbers(tmp_path):
    with pytest.raises(ConfigError, match="'1_02' is no number; write 102"):
        as_given(["trace.requests=1_02"])
    assert as_given(["trace.requests=1_000", "router=least_load"]) == ["trace.requests=1_000", "router=least_load"]
    (tmp_path / "a.yaml").write_text("trace: {requests: 1_02}\n")
    with pytest.raises(InputError, match="line 1: '1_02' is no number"):
        read_plain_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+autoscaler=simple"], "unknown key 'autoscaler'; allowed: bound, compare"),
        (["++autoscaler=simple"], "unknown key 'autoscaler'"),
        (["router=random,fastest", "+autoscaler=simple"], "unknown key 'autoscaler'"),
        (["seed=3"], "unknown key 'seed' (did you mean seeds?)"),
        (["trace.request=3"], "trace.request: trace has no such field here; its fields are: "),
        (["faults.crash_every_s=9"], "is chosen has no fields; give faults=injected too, which has 'crash_every_s'"),
        (["router=godserve"], "router 'godserve' is unknown (did you mean goodserve?); allowed: always_first, "),
        (["router=godserve,fastest"], "router 'godserve' is unknown (did you mean goodserve?)"),
        (
            ["engine.host_kv={size: 3}"],
            "engine.host_kv has no field 'size' (did you mean size_gb?); its fields are: size_gb,",
        ),
        (["pool.slots.proces_s=3"], "pool.slots has no field 'proces_s' (did you mean process_s?)"),
        (["engine.host_kv=32"], "engine.host_kv=32: it has fields of its own: size_gb, blocks"),
        (["study=tune", "fields=hope"], "fields=hope: it is a list; write 'fields=[hope]'"),
        (["study=frontier", "cases=a crash"], """cases=a crash: it is a list; write 'cases=["a crash"]'"""),
        (["name=../../x"], "a name is a folder inside results"),
        (["name=.."], "a name is a folder inside results"),
        (["hydra.launcher.n_jobs=0", "router=random,fastest"], "n_jobs must be a number of processes"),
        (["timeline=true", "router=random,fastest"], "policy=... (random, fastest)"),
    ],
)
def test_what_cannot_be_is_said_without_a_plus(words, message, capsys):
    assert main([*SMALL[:-1], *words]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "use +" not in said
    assert not Path("results").exists()


def test_explain_asks_for_policy_and_point(capsys):
    grid_words = ["router=random,fastest", "trace.rate_per_s=20,90", "rectifier=none", *SMALL[:1], *SMALL[2:]]
    assert main(["explain", "request=1", *grid_words]) == 1
    said = capsys.readouterr().err
    assert "policy=... (random, fastest)" in said
    assert "trace.rate_per_s=... (20.0, 90.0)" in said
    assert main(["explain", "request=1", "policy=slowest", *grid_words]) == 1
    assert "the policies are: random, fastest" in capsys.readouterr().err
    one = [word for word in grid_words if not word.startswith("trace.rate")]
    assert main(["explain", "request=1", "policy=fastest", "trace.rate_per_s=90", "seed=3", *one]) == 0
    assert "router=fastest, predictor=noisy, rectifier=none, seed 3" in capsys.readouterr().out
    assert main(["timeline", "policy=random", "trace.rate_per_s=20", *one, "out=lines"]) == 0
    assert Path("lines/timeline.json").is_file()


def test_a_broken_file_of_ones_own_concerns_who_uses_it_alone(capsys):
    for folder in ("extensions", "experiments"):
        Path(folder).mkdir()
    half = "from dataclasses import dataclass\nfrom gsim.core import register\n\n"
    half += '@register("router", "half")\n@dataclass\nclass Half:\n    """x"""\n\nraise SystemExit(3)\n'
    Path("extensions/broken.py").write_text(half)
    Path("experiments/broken.yaml").write_text("router: [a\n")
    assert main(["--help"]) == 0
    said = capsys.readouterr().err
    assert "broken.py: SystemExit: 3; what this file registers is not there" in said
    assert "experiment=broken is not there" in said
    assert main(["router=half"]) == 1
    assert main(["experiment=broken"]) == 1
    assert "cannot be read as YAML" in capsys.readouterr().err.splitlines()[-1]


def test_what_an_experiment_repeats_and_reads_is_bounded(tmp_path):
    bomb = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(bomb))
    with pytest.raises(InputError, match="more than 200000 values"):
        read_plain_yaml(tmp_path / "bomb.yaml")
    (tmp_path / "loop.yaml").write_text("a: &a [*a]\n")
    with pytest.raises(InputError, match="more than 200000 values"):
        read_plain_yaml(tmp_path / "loop.yaml")
    merged = ["a0: &a0 {k0: 0, k1: 1, k2: 2, k3: 3, k4: 4, k5: 5, k6: 6, k7: 7, k8: 8}"]
    merged += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    (tmp_path / "merged.yaml").write_text("\n".join(merged))
    # (PyYAML itself keeps one of a kind in later versions.)
    for read in (read_plain_yaml, read_yaml):
        try:
            read(tmp_path / "merged.yaml")
        except (InputError, ProfileError) as error:
            assert "mappings that are merged have more than 200000 values" in str(error)  # noqa: PT017
    (tmp_path / "own.yaml").write_text("a: &a {<<: *a}\n")
    with pytest.raises(InputError, match="own.yaml: cannot be read as YAML"):
        read_plain_yaml(tmp_path / "own.yaml")
    (tmp_path / "few.yaml").write_text("usual: &u {requests: 5}\ntrace: {<<: *u, rate_per_s: 2}\n")
    assert read_plain_yaml(tmp_path / "few.yaml")["trace"] == {"requests": 5, "rate_per_s": 2}


@pytest.mark.parametrize("text", ["${oc.env:KEY}", "${ oc.env : KEY }", "${oc.decode:${oc.env:KEY}}", "${oc.${x}:KEY}"])
@pytest.mark.parametrize("line", ["question: 'a {}'", "trace: {{path: '{}'}}", "sweep: {{router: ['{}']}}", "'{}': 1"])
def test_an_experiment_reads_no_secrets(text, line, tmp_path):
    (tmp_path / "env.yaml").write_text(line.format(text) + "\n")
    with pytest.raises(InputError, match="variable of the environment"):
        read_experiment(tmp_path / "env.yaml", set())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("knee: 5", "knee must be a mapping of fields, not 5"),
        ("knee: {at: 2}", "knee.at must be a list of multiples of the knee, not 2"),
        ("figure: x", "figure must be a mapping of fields, not x"),
        ("limit: 5", "limit must be a mapping of fields, not 5"),
        ("figure: {y: 5}", "figure.y must be a list of metrics, not 5"),
    ],
)
def test_a_value_where_fields_belong_is_said(text, said, capsys):
    Path("experiments").mkdir()
    Path("experiments/odd.yaml").write_text(text + "\n")
    assert main(["experiment=odd", *SMALL]) == 1
    assert said in capsys.readouterr().err


def test_what_an_experiment_interpolates_is_read(tmp_path):
    (tmp_path / "plain.yaml").write_text("question: '${name} at ${trace.rate_per_s}, ${a.${b}}'\n")
    assert read_experiment(tmp_path / "plain.yaml", set()).question.startswith("${name}")


def test_what_is_no_text_is_refused_at_once(capsys):
    assert main(["router=random", "name=a\udcff", *SMALL]) == 1
    assert "'name=a\\udcff' is no text in this system's encoding" in capsys.readouterr().err
    assert not Path("results").exists()
    assert main(["router=random", "name=größe", *SMALL]) == 0
    assert Path("results/größe/results.csv").exists()


def test_a_working_folder_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["router=random", *SMALL]) == 1
    assert "the working folder is gone" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


def test_a_pipe_among_ones_own_files_is_not_waited_for(capsys):
    for place in ("extensions/pipe.py", "experiments/pipe.yaml"):
        Path(place).parent.mkdir()
        os.mkfifo(place)
    assert main(["--help"]) == 0
    said = capsys.readouterr().err
    assert "pipe.py: not a file" in said
    assert "pipe.yaml: cannot be read as YAML" in said


@pytest.mark.parametrize("name", ["it's me", "x${y}z", "ä ö,(1)"])
def test_a_working_folder_may_have_any_name(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    assert main([*SMALL, "router=random,round_robin", "rectifier=none"]) == 0
    shown = yaml.safe_load(Path("results/default/config.yaml").read_text())
    assert shown["sweep"] == {"router": ["random", "round_robin"]}
    out = tmp_path / name / "s3:x" / "a=b"
    assert main([*SMALL, "router=random,round_robin", "out=s3:x/a=b"]) == 0
    assert len(load("s3:x/a=b").requests) == 10
    assert (out / "provenance.json").is_file()
