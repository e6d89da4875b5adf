"""The command line, end to end, on small runs in an empty folder."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import main
from gsim.cli.listing import COMMANDS
from gsim.core import registry
from gsim.run.store import RunStore
from gsim.study.experiments import read_experiments

SMALL = ["trace.requests=60", "warmup_s=0", "seeds=2", "hydra.launcher.n_jobs=1"]
SWEEP = ["name=tiny", "router=random,round_robin", "rectifier=none", "trace.rate_per_s=5,20", *SMALL]


pytestmark = pytest.mark.usefixtures("empty_folder")


def run(*words):
    return main(list(words))


def test_one_run_of_the_default_configuration(tmp_path, capsys):
    assert run(*SMALL, "seeds=1") == 0
    said = capsys.readouterr().out
    assert "goodput_rps" in said
    assert "H800" in said
    out = tmp_path / "results" / "default"
    row = pd.read_csv(out / "results.csv").iloc[0]
    assert row["requests"] == 60
    assert row["completed"] + row["rejected"] + row["failed"] == 60
    requests = pd.read_parquet(out / "requests.parquet")
    assert len(requests) == 60
    assert set(requests["status"]) == {"finished"}
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["seeds"] == [0]
    assert provenance["versions"]["numpy"]


def test_a_sweep_leaves_a_row_per_cell_and_its_figure(tmp_path, capsys):
    assert run(*SWEEP) == 0
    out = tmp_path / "results" / "tiny"
    table = pd.read_csv(out / "results.csv")
    assert list(zip(table["router"], table["trace.rate_per_s"])) == [
        ("random", 5.0),
        ("random", 20.0),
        ("round_robin", 5.0),
        ("round_robin", 20.0),
    ]
    assert (table["seeds"] == 2).all()
    assert (
        (table["goodput_rps_low"] <= table["goodput_rps"]) & (table["goodput_rps"] <= table["goodput_rps_high"])
    ).all()
    for name in ("tiny.png", "tiny.pdf", "paired.csv", "runs.csv", "instances.csv", "config.yaml"):
        assert (out / name).stat().st_size > 0
    rows = pd.read_parquet(out / "requests.parquet")
    assert len(rows) == 4 * 2 * 60
    # Common random numbers: at a rate, both routers see the same arrivals and lengths.
    seen = rows[rows["trace.rate_per_s"] == 5.0].groupby(["router", "seed"])
    assert len({tuple(group["arrival_s"]) for _, group in seen}) == 2
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 200


def test_the_configuration_says_what_was_swept(tmp_path):
    def swept(*words):
        assert run(*SMALL, "seeds=1", "trace.requests=10", "bound=false", "out=said", *words) == 0
        return yaml.safe_load((tmp_path / "said" / "config.yaml").read_text())["sweep"]

    own = swept("experiment=goodput_vs_rps_paper", "trace.rate_per_s=30,50")
    assert own["trace.rate_per_s"] == [30.0, 50.0]
    assert [entry["label"] for entry in own["router"][:2]] == ["GoodServe", "GoodServe without migration"]
    assert own["router"][2:4] == ["least_load", "least_request"]
    assert list(own) == ["trace.rate_per_s", "router"]
    assert swept("experiment=goodput_vs_rps_paper", "trace.rate_per_s=30", "router=random,fastest") == {
        "router": ["random", "fastest"]
    }
    assert swept("router=random,fastest", "slo.seconds=4,5") == {
        "router": ["random", "fastest"],
        "slo.seconds": [4.0, 5.0],
    }
    assert swept() is None


def test_tables_fit_a_hundred_columns(capsys):
    assert run(*SWEEP) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines() if not line.startswith("results in")) <= 100


def test_results_are_the_same_bytes_again_and_on_two_workers(tmp_path):
    assert run(*SWEEP, "out=one") == 0
    assert run(*SWEEP, "out=two") == 0
    assert run(*SWEEP, "out=three", "hydra.launcher.n_jobs=2") == 0
    for name in ("results.csv", "paired.csv", "runs.csv", "instances.csv"):
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes()
        assert first == (tmp_path / "three" / name).read_bytes()


def test_only_what_is_missing_is_computed(tmp_path, capsys):
    assert run(*SWEEP) == 0
    runs = tmp_path / "results" / "tiny" / "runs"
    before = {path.name: path.stat().st_mtime_ns for path in runs.glob("*.parquet")}
    assert len(before) == 8
    next(iter(runs.glob("*.parquet"))).unlink()
    capsys.readouterr()
    assert run(*SWEEP, "seeds=3") == 0
    assert "5 runs computed, 7 were there already" in capsys.readouterr().err
    after = {path.name: path.stat().st_mtime_ns for path in runs.glob("*.parquet")}
    assert len(after) == 12
    assert sum(after[name] == stamp for name, stamp in before.items() if name in after) == 7


def test_a_dry_run_says_what_and_leaves_nothing(tmp_path, capsys):
    assert run(*SWEEP, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 cells, 8 runs: 0 stored, 8 to compute" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["router=best"], "round_robin"),
        (["router.speed=3"], "router.speed"),
        (["trace.rate_per_s=fast"], "could not be converted to Float"),
        (["trace.rate_per_s=-1"], "rate"),
        (["experiment=nothing"], "goodput_vs_rps"),
        (["seeds=0"], "seeds must be a count"),
        (["warmup_s=-3"], "warmup_s must be 0 or more"),
        (["goodput=ttlt:5"], "ttft, tpot, e2el"),
        (["pool.instances=[{profile: tpu}]"], "tpu"),
        (["pool.instances=[]"], "pool.instances is empty"),
        (["pool.instances=[{profile: h800-llama-3.1-8b, engine: {seqs: 3}}]"], "seqs"),
        (["figure.x=slo.sekonds", "router=random,round_robin"], "figure.x"),
        (["compare=[rooter]", "router=random,round_robin"], "rooter"),
    ],
)
def test_bad_input_is_named_before_anything_runs(words, message, capsys, tmp_path):
    assert run(*SMALL, *words) == 1
    assert message in capsys.readouterr().err
    if "figure" not in words[0]:
        assert not list(tmp_path.glob("results/*/runs/*"))


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(*SMALL, "out=file/results") == 1
    assert "out=file/results: cannot write there" in capsys.readouterr().err


def test_help_lists_what_there_is(capsys):
    assert run("--help") == 0
    said = capsys.readouterr().out
    for name in ("router", "goodserve (", "goodput_vs_rps", "decode_clock", "--help GROUP"):
        assert name in said
    assert len(said.splitlines()) <= 30  # a screen
    assert max(map(len, said.splitlines())) <= 100
    for words, name in ((["router"], "round_robin"), (["experiment"], "agentic_goodput"), (["fields"], "warmup_s=")):
        assert run("--help", *words) == 0
        assert name in capsys.readouterr().out
    assert run("--help", "router", "goodserve") == 0
    assert "router.margin_s" in capsys.readouterr().out
    assert run("router=goodserve", "--help") == 0
    assert "GROUP=NAME chooses" in capsys.readouterr().out
    assert run("--help", "experiment", "autoscaling") == 0
    assert "autoscaling" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu"], "unknown group 'gpu'; there are: pool, trace"),
        (["routr"], "unknown group 'routr' (did you mean router?)"),
        (["frontier"], "unknown group 'frontier'; see --help study frontier or --help experiment frontier"),
        (["goodserve"], "unknown group 'goodserve'; see --help router goodserve; there are"),
        (["router", "goodserv"], "unknown router 'goodserv' (did you mean goodserve?)"),
        (["gpu", "goodserve"], "unknown group 'gpu'"),
        (["study", "capacty"], "unknown study 'capacty' (did you mean capacity?)"),
        (["scheduler", "eddf"], "unknown scheduler 'eddf' (did you mean edf?)"),
        (["experiment", "autoscalin"], "unknown experiment 'autoscalin' (did you mean autoscaling?)"),
        (["router", "goodserve", "margin_s"], "--help GROUP NAME; not --help router goodserve margin_s"),
    ],
)
def test_help_for_what_there_is_not_is_an_error(words, said, capsys):
    assert run("--help", *words) == 1
    assert said in capsys.readouterr().err


def test_a_command_says_what_it_takes(capsys):
    for command in COMMANDS:
        for words in ((command, "--help"), ("--help", command)):
            assert run(*words) == 0
            said = capsys.readouterr().out
            assert said.startswith(f"python -m gsim {command} ")
            assert max(map(len, said.splitlines())) <= 120


ROUTER = '''
from dataclasses import dataclass
from gsim.core import register

@register("router", "last")
@dataclass(frozen=True)
class Last:
    """The last available instance."""
    bonus: int = 0

    def route(self, request, view):
        return int(view.available.nonzero()[0][-1])
'''
TRACE = '''
from dataclasses import dataclass
from gsim.core import Job, Request, Session, register

@register("trace", "every_second")
@dataclass(frozen=True)
class EverySecond:
    """A request per second."""
    requests: int = 5

    def sessions(self, streams, slo):
        for i in range(self.requests):
            yield Session(i, float(i), (Job(Request(i, float(i), 50, 20, 5.0), 20),))
'''


def test_a_router_a_trace_a_profile_and_an_experiment_are_one_file_each(tmp_path, capsys):
    shipped = Path(registry.__file__).parents[2] / "profiles" / "a40-llama-3.1-8b.yaml"
    for name in ("extensions", "profiles", "experiments"):
        (tmp_path / name).mkdir()
    (tmp_path / "extensions" / "last.py").write_text(ROUTER)
    (tmp_path / "extensions" / "every_second.py").write_text(TRACE)
    mine = shipped.read_text().replace("gpu: A40", "gpu: Mine").replace("a40-llama-3.1-8b", "mine")
    (tmp_path / "profiles" / "mine.yaml").write_text(mine)
    (tmp_path / "experiments" / "own.yaml").write_text(
        "pool: {instances: [{profile: mine, count: 2}]}\n"
        "trace: {name: every_second, requests: 4}\n"
        "rectifier: none\n"
        "sweep: {router: [last, random]}\n"
    )
    assert run("experiment=own", "seeds=2", "hydra.launcher.n_jobs=2") == 0
    instances = pd.read_csv(tmp_path / "results" / "own" / "instances.csv")
    assert instances[instances["router"] == "last"]["share"].tolist() == [0.0, 1.0]
    assert run("experiment=own", "router=last", "router.bonus=x") == 1
    assert "Integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warmup: 5\n", "unknown key 'warmup'"),
        ("sweep: {router: random}\n", "sweep.router must be"),
        ("- a\n", "must be a mapping"),
        ("router: [a\n", "cannot be read as YAML"),
        ("router: 3\n", "router must be an option's name"),
    ],
)
def test_a_broken_experiment_file_is_named(tmp_path, capsys, text, message):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "broken.yaml").write_text(text)
    assert run("--help") == 0
    assert "experiment=broken is not there" in capsys.readouterr().err
    assert run(*SMALL, "experiment=broken") == 1
    said = capsys.readouterr().err
    assert "broken.yaml" in said
    assert message in said


def test_every_experiment_composes():
    names = read_experiments(set())
    assert "goodput_vs_rps" in names
    register_schema()
    with hydra_session() as hydra:
        for name in names:
            config, _ = compose(hydra, [f"experiment={name}"])
            assert config.name == name


def test_what_an_experiment_says_wins_over_the_main_configuration(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text("trace: {rate_per_s: 33}\nwarmup_s: 7\nrouter: random\n")
    register_schema()
    with hydra_session() as hydra:
        values = plain(compose(hydra, ["experiment=mine", "seeds=3"])[0])
    assert (values["trace"]["rate_per_s"], values["warmup_s"], values["seeds"]) == (33.0, 7, 3)
    assert values["router"]["name"] == "random"


def test_another_option_drops_the_experiments_fields_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "classes.yaml").write_text(
        "slo: {name: per_class, seconds: {default: 3.0}}\ntrace: {requests: 20}\nseeds: 1\n"
    )
    assert main(["experiment=classes", "slo=fixed", "slo.seconds=2.5", "out=fixed"]) == 0
    config = (tmp_path / "fixed" / "config.yaml").read_text()
    assert "seconds: 2.5" in config
    assert "requests: 20" in config
    assert main(["experiment=classes", "out=classes"]) == 0
    assert "per_class" in (tmp_path / "classes" / "config.yaml").read_text()


def test_in_a_study_the_plan_beats_the_routers_and_the_bound_beats_the_plan(tmp_path):
    words = ["router=ilp_plan,fastest,least_load", "rectifier=none", "predictor=oracle", "bound=true", "warmup_s=0"]
    load = ["trace.requests=80", "trace.rate_per_s=90", "seeds=2", "hydra.launcher.n_jobs=1", f"out={tmp_path}"]
    assert main([*words, *load]) == 0
    rows = {row["router"]: row for row in csv.DictReader((tmp_path / "results.csv").open())}
    goodput = {name: float(row["goodput_rps"]) for name, row in rows.items()}
    assert goodput["ilp_plan"] >= max(goodput["fastest"], goodput["least_load"])
    assert float(rows["ilp_plan"]["upper_bound"]) >= goodput["ilp_plan"]
    assert float(rows["fastest"]["plan"]) == pytest.approx(goodput["ilp_plan"])
    assert float(rows["fastest"]["regret_to_bound"]) >= 0


def test_compare_pairs_two_policies_and_two_studies(capsys):
    assert run(*SWEEP) == 0
    assert run(*SWEEP, "out=again") == 0
    capsys.readouterr()
    assert run("compare", "results/tiny:random", "results/tiny:round_robin", "mean_e2el_ms") == 0
    said = capsys.readouterr().out
    assert said.count("mean_e2el_ms") == 2
    assert run("compare", "results/tiny", "again") == 0
    assert "A higher" not in capsys.readouterr().out  # equal runs do not differ
    assert run("compare", "results/tiny:best", "again:random") == 1
    assert "no policy 'best'" in capsys.readouterr().err


def test_compare_runs_two_routers_on_the_same_seeds(capsys):
    words = ["trace.rate_per_s=5,60", *SMALL]
    assert run("compare", "goodserve+risk_monitor", "random", *words) == 0
    said = capsys.readouterr().out
    assert "A - B" in said
    assert said.count("goodput_rps") >= 2
    assert run("compare", "goodserve", "best", *words) == 1
    assert "neither a results folder nor a router" in capsys.readouterr().err


def test_explain_tells_one_request(capsys):
    words = [*SMALL, "router=goodserve", "trace.rate_per_s=150"]
    assert run("explain", "request=59", *words) == 0
    said = capsys.readouterr().out
    assert "request 59" in said
    assert "chose" in said
    assert "deadline" in said or "late" in said
    assert run("explain", "request=9999", *words) == 1
    assert "give one of 0 to 59" in capsys.readouterr().err


def test_a_time_line_opens_as_a_chrome_trace(tmp_path):
    assert run(*SMALL, "timeline=true", "trace.rate_per_s=120", "seeds=1") == 0
    out = tmp_path / "results" / "default"
    events = json.loads((out / "timeline.json").read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X" and e["name"].startswith("request ")]
    assert len({e["args"]["request"] for e in slices if "request" in e["args"]}) == 60
    assert any(e["ph"] == "C" and e["name"] == "KV usage" for e in events)
    # Perfetto needs slices of one lane to nest or to follow one another.
    lanes: dict[tuple[int, int], float] = {}
    for e in sorted(slices, key=lambda e: e["ts"]):
        lane = (e["pid"], e["tid"])
        assert e["ts"] >= lanes.get(lane, 0.0) - 1e-3
        lanes[lane] = e["ts"] + e["dur"]
    assert (out / "timeline.png").exists()


def test_an_interrupt_keeps_finished_runs(tmp_path):
    command = [sys.executable, "-m", "gsim", "router=random,round_robin", "name=long", "rectifier=none"]
    command += ["trace.requests=3000", "trace.rate_per_s=40,50,60", "seeds=40", "hydra.launcher.n_jobs=1"]
    runs = tmp_path / "results" / "long" / "runs"
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        deadline = time.monotonic() + 60
        while len(list(runs.glob("*.parquet"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "finished runs are kept" in said
    assert len(list(runs.glob("*.parquet"))) >= 2
    assert pd.read_parquet(next(iter(runs.glob("*.parquet"))))["status"].eq("finished").all()


def test_skipped_rows_of_a_trace_are_said(tmp_path, capsys):
    rows = ["2023-11-16 18:15:46.1,374,44", "2023-11-16 18:15:46.2,-5,44", "2023-11-16 18:15:46.5,80,12"]
    (tmp_path / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, ""]))
    assert main(["trace=azure", "trace.path=trace.csv", "trace.on_error=skip", "seeds=1", "name=skips"]) == 0
    assert "skipped_rows" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "results" / "skips" / "results.csv")
    assert table["skipped_rows"][0] == 1
    assert table["requests"][0] == 2
    store = RunStore(tmp_path / "results" / "skips" / "runs")
    (stored,) = store.folder.glob("*.parquet")
    assert "trace.csv, row 3" in store.summary(stored.stem)["trace"]
    assert main(["trace.requests=20", "seeds=1", "name=whole"]) == 0
    assert "skipped_rows" not in capsys.readouterr().out
