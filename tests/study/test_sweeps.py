"""Sweeps mean what they say: labels, options with fields, parameters of routers. ``compare`` pairs what is alike."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.text import Text

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, register_schema
from gsim.cli.entry import main
from gsim.core import ConfigError
from gsim.report import load
from gsim.report.sweep_figure import sweep_figure
from gsim.study.axes import read_axes

ONE_WORKER = "hydra.launcher.n_jobs=1"
TINY = [
    "trace.requests=20",
    "trace.rate_per_s=80",
    "warmup_s=0",
    "seeds=2",
    "rectifier=none",
    "hydra.launcher.n_jobs=1",
]
OWN = '''
from dataclasses import dataclass
from gsim.core import register

@register("router", "{name}")
@dataclass(frozen=True)
class Own:
    """The instance of this index."""
    index: int = 0

    def route(self, request, view):
        return self.index
'''


pytestmark = pytest.mark.usefixtures("empty_folder")


def write(place, text):
    path = Path(place)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def cells(*words):
    register_schema()
    with hydra_session() as hydra:
        config, _ = compose(hydra, list(words))
        return grid(hydra, config, list(words))


def experiment(sweep, **values):
    write("experiments/own.yaml", yaml.safe_dump({"sweep": sweep, "rectifier": "none", **values}, sort_keys=False))


def test_a_labelled_entry_is_one_policy_whatever_it_sets():
    write("extensions/own.py", OWN.format(name="own"))
    experiment(
        {
            "trace.rate_per_s": [40, 90],
            "router": [
                {"label": "mine", "router": "own", "router.index": 3, "predictor.error": 0.2},
                {"label": "GoodServe", "router": "goodserve", "rectifier": "risk_monitor"},
                "least_load",
            ],
        }
    )
    made = cells("experiment=own").cells
    assert [cell.label for cell in made] == ["mine", "GoodServe", "least_load"] * 2
    assert [cell.point for cell in made] == [{"trace.rate_per_s": rate} for rate in (40.0, 90.0) for _ in range(3)]
    tiny = [word for word in TINY if not word.startswith(("trace.rate", "rectifier"))]
    assert main(["experiment=own", *tiny]) == 0
    table = pd.read_csv("results/own/results.csv")
    assert table["policy"].tolist() == ["mine", "GoodServe", "least_load"] * 2
    paired = pd.read_csv("results/own/paired.csv")
    own = paired[paired["metric"] == "attainment"]
    assert sorted(zip(own["trace.rate_per_s"], own["first"], own["second"])) == sorted(
        (rate, *pair)
        for rate in (40.0, 90.0)
        for pair in (("mine", "GoodServe"), ("mine", "least_load"), ("GoodServe", "least_load"))
    )
    read = load("results/own")
    assert read.points == ["trace.rate_per_s"]
    assert [cell.label for cell in read.cells] == ["mine", "GoodServe", "least_load"] * 2


def test_equal_labels_and_fields_set_twice_are_refused(capsys):
    same = [{"label": "A", "router": "random"}, {"label": "A", "router": "fastest"}]
    experiment({"router": same})
    assert main(["experiment=own", *TINY]) == 1
    assert "two entries are labelled 'A'" in capsys.readouterr().err
    experiment({"router": [{"label": "fastest", "router": "random"}, "fastest"]})
    assert main(["experiment=own", *TINY]) == 1
    assert "two policies are called 'fastest'" in capsys.readouterr().err
    experiment(
        {"predictor.error": [0.1, 0.5], "router": [{"label": "A", "router": "goodserve", "predictor.error": 0.3}]}
    )
    assert main(["experiment=own", *TINY]) == 1
    assert "predictor.error is set by 'predictor.error' and by 'router'" in capsys.readouterr().err
    assert not Path("results").exists()


def test_an_option_with_its_fields_is_an_entry_as_config_yaml_prints_it():
    experiment({"predictor": [{"name": "noisy", "error": 0.05}, {"name": "constant", "tokens": 90}, "oracle"]})
    made = cells("experiment=own")
    assert [cell.value("predictor") for cell in made.cells] == ["noisy", "constant", "oracle"]
    assert [cell.value("predictor.error") for cell in made.cells] == [0.05, None, None]
    assert made.cells[1].value("predictor.tokens") == 90
    assert made.described() == {
        "predictor": [
            {"predictor": "noisy", "predictor.error": 0.05},
            {"predictor": "constant", "predictor.tokens": 90},
            "oracle",
        ]
    }
    # What it prints is an experiment that makes the same cells.
    experiment(made.described())
    assert [cell.settings for cell in cells("experiment=own").cells] == [cell.settings for cell in made.cells]
    entry = {"label": "all", "router": {"name": "goodserve", "margin_s": 0.5}, "rectifier": {"name": "none"}}
    experiment({"router": [entry]})
    assert cells("experiment=own").cells[0].value("router.margin_s") == 0.5


def test_the_parameters_of_a_router_are_compared_with_one_another():
    assert main(["router=goodserve", "router.margin_fraction=0,0.5", *TINY, "name=margins"]) == 0
    table = pd.read_csv("results/margins/results.csv")
    assert table["policy"].tolist() == ["goodserve + margin_fraction=0.0", "goodserve + margin_fraction=0.5"]
    paired = pd.read_csv("results/margins/paired.csv")
    assert set(zip(paired["first"], paired["second"])) == {tuple(table["policy"])}
    # In the figure a line is all values of the axis.
    assert {cell.along("router.margin_fraction").label for cell in load("results/margins").cells} == {"goodserve"}


def test_policies_that_set_the_same_router_differently_have_names_of_their_own():
    entries = [{"router": "goodserve", "router.margin_s": margin} for margin in (0, 1)]
    experiment({"router": [*entries, "random"]})
    labels = [cell.label for cell in cells("experiment=own").cells]
    assert labels == ["goodserve + margin_s=0.0", "goodserve + margin_s=1.0", "random"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (["router"], "sweep must map a field or group to a list"),
        ({"router": []}, "sweep.router must be a list of one value or more"),
        ({"router": "random"}, "sweep.router must be a list"),
    ],
)
def test_a_sweep_of_another_shape_is_said(sweep, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_axes(sweep)


def test_a_sweep_without_values_is_said(capsys):
    assert main([*TINY, "trace.rate_per_s=range(5,5)"]) == 1
    assert "trace.rate_per_s=range(5,5): there is no value in it" in capsys.readouterr().err


def test_a_range_inside_braces_is_said(capsys):
    assert main([*TINY, "sweep={trace.rate_per_s: range(5,50)}"]) == 1
    assert "a range, choice or glob stands alone" in capsys.readouterr().err


def test_compare_finds_extensions(capsys):
    write("extensions/own.py", OWN.format(name="strongest"))
    words = [word for word in TINY if not word.startswith("rectifier")]
    assert main(["compare", "strongest", "goodserve", *words]) == 0
    assert "A = results/compare-strongest-goodserve:strongest" in capsys.readouterr().out


def test_compare_pairs_like_points_only_and_names_what_differs(capsys):
    fixed = [word for word in TINY if not word.startswith("trace.rate")]
    assert main(["router=random", "trace.rate_per_s=40,100", *fixed, "name=two"]) == 0
    assert main(["router=random", "trace.rate_per_s=40", *fixed, "name=one"]) == 0
    assert main(["router=random", "trace.rate_per_s=60", *fixed, "name=other"]) == 0
    assert main(["router=random", "trace.rate_per_s=40", "slo.seconds=3", *fixed, "name=tight"]) == 0
    assert main(["router=fastest", "predictor=oracle", "trace.rate_per_s=40", *fixed, "name=fast"]) == 0
    capsys.readouterr()
    assert main(["compare", "results/two", "results/one", "attainment"]) == 0
    said = capsys.readouterr().out
    assert said.count("attainment") == 1
    assert "only in A: random at trace.rate_per_s=100" in said
    assert main(["compare", "results/two", "results/other"]) == 1
    assert "trace.rate_per_s is 40, 100 in A and 60 in B" in capsys.readouterr().err
    assert main(["compare", "results/one", "results/tight"]) == 1
    assert "slo.seconds is 6 in A and 3 in B" in capsys.readouterr().err.replace("6.0", "6")
    assert main(["compare", "results/one", "results/fast"]) == 1
    assert "no policy in common" in capsys.readouterr().err
    assert main(["compare", "results/one:random", "results/fast:fastest"]) == 0
    assert "A and B differ in predictor (noisy and oracle)" in capsys.readouterr().out


LABELS = ["1", "007", "_x", "US$1_", "NA", "a,b: c", "1e3", "null", 'say "hi"', "Grüße", "${x}", "*b*", "it's", "[1]"]


def test_labels_pass_through_files_and_figures_unchanged(capsys):
    write("extensions/own.py", OWN.format(name="own"))
    entries = [{"label": label, "router": "own", "router.index": i % 4} for i, label in enumerate(LABELS)]
    experiment({"trace.rate_per_s": [40, 80], "router": entries})
    assert main(["experiment=own", ONE_WORKER, "seeds=2", "trace.requests=4"]) == 0
    read = load("results/own")
    assert [cell.label for cell in read.cells] == LABELS * 2
    assert set(read.requests["policy"]) == set(LABELS)
    config = yaml.safe_load(Path("results/own/config.yaml").read_text())
    assert [entry["label"] for entry in config["sweep"]["router"]] == LABELS
    shown = [text.get_text() for axis in read.figure().axes for text in axis.get_yticklabels()]
    assert shown[: len(LABELS)] == LABELS
    few = [cell for cell in read.cells if cell.label in ("1", "_x", "US$1_")]
    told = {text.get_text() for text in sweep_figure(few, "trace.rate_per_s", ["goodput_rps"]).findobj(Text)}
    assert {"1", "_x", "US$1_"} <= told
    capsys.readouterr()
    for label in ("1", "_x", "NA", "a,b: c", "${x}"):
        assert main(["compare", f"results/own:{label}", "results/own:US$1_", "attainment"]) == 0
        assert f"A = results/own:{label}\n" in capsys.readouterr().out


def test_pools_are_swept_as_lists_of_instances():
    kinds = ["v100-llama-3.1-8b", "a40-llama-3.1-8b", "h800-llama-3.1-8b"]
    entries = [
        {"label": name, "router": "random", "pool.instances": [{"profile": name, "count": count}]}
        for count, name in enumerate(kinds, 1)
    ]
    experiment({"trace.rate_per_s": [20, 40], "router": entries})
    made = cells("experiment=own").cells
    pools = [cell.settings.scenario().instances for cell in made]
    assert [len(pool) for pool in pools] == [1, 2, 3] * 2
    assert [pool[0].profile.name for pool in pools] == kinds * 2
    assert [cell.settings.plain()["trace"]["rate_per_s"] for cell in made] == [20] * 3 + [40] * 3
