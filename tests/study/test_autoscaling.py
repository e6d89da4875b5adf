"""Autoscaling: the small experiment runs, its numbers are what they are called, and the bound is one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

from gsim.cli.compose import compose, groups, hydra_session, plain, register_schema
from gsim.core import ConfigError, Dependency, Job, Request
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.optimum import BoundConfig, Server, upper_bound
from gsim.optimum.cheapest import Offer, cheapest_pool
from gsim.run.settings import Settings
from gsim.study.experiments import read_experiment
from gsim.study.figure import save
from gsim.study.literal import literal
from gsim.study.questions.autoscaling import Autoscaling, compared, notes
from gsim.study.questions.autoscaling_figure import figure
from gsim.study.study import Context

ROOT = Path(__file__).resolve().parents[2]
QUICK = BoundConfig(rounds=4, gap=1.0, max_nodes=1, grid=20)
SMALL = ("trace.duration_s=60", "trace.rate_per_s=8", "dynamics.over_s=60")


def settings_of(*words: str) -> Settings:
    register_schema()
    with hydra_session() as hydra:
        return Settings.read(plain(compose(hydra, ["experiment=autoscaling", *words])[0]))


def test_a_short_day_is_measured_and_bounded(tmp_path):
    study = Autoscaling(("wva",), ((2, 1, 0), (4, 4, 2)), slow_boots=0.0, compressed=1440.0, faster=60.0, hours=2)
    found = study.run(Context("autoscaling", tmp_path, (0, 1), settings_of(*SMALL)))
    table = found.tables["autoscaling"].set_index("policy")
    assert list(table.index) == ["fixed 2+1+0", "fixed 4+4+2", "wva"]
    # A fixed pool costs its price for as long as the run takes: two A40 and an A800 take 2.3 USD an hour.
    runs = found.tables["runs"]
    own = runs[runs["policy"] == "fixed 2+1+0"]
    assert (own["cost_usd"] / 2.3 * 3600).between(60.0, 75.0).all()
    assert table.loc["fixed 2+1+0", "instances_up"] == 3.0
    assert 0 < table.loc["wva", "usd_per_day"] < table.loc["fixed 4+4+2", "usd_per_day"]
    # Neither KV nor queue fills before requests are late: it shrinks to the cheapest card, where they are.
    assert table.loc["wva", "attainment"] < table.loc["fixed 2+1+0", "attainment"] - 0.3
    assert (found.tables["lower_bound"]["usd_per_hour"] > 0).all()
    assert found.tables["lower_bound"]["usd_per_hour"].mean() * 24 < table.loc["fixed 4+4+2", "usd_per_day"]
    assert len(found.notes) == 3
    (png, _) = save(found.figures["autoscaling"], tmp_path / "autoscaling")
    assert png.stat().st_size > 20_000


def test_the_figure_has_every_policy_once(tmp_path):
    """All scalers, slow boots and a row of fixed pools, of numbers that are made up."""
    points = {
        **{f"fixed 2+{n}+0": ("fixed", 20.0 + 30.0 * n, 0.7 + 0.07 * n) for n in range(1, 5)},
        **{name: ("scaler", 70.0 + 9.0 * i, 0.91 + 0.015 * i) for i, name in enumerate(Autoscaling().scalers)},
        "forecast, boots x10": ("slow", 92.0, 0.86),
        "feasible_supply, boots x10": ("slow", 99.0, 0.9),
    }
    rows = [
        (policy, kind, seed, usd + seed, share + 0.01 * seed)
        for policy, (kind, usd, share) in points.items()
        for seed in range(3)
    ]
    runs = pd.DataFrame(rows, columns=["policy", "kind", "seed", "usd_per_day", "attainment"])
    table = compared(runs.assign(starts=2.0, joule_per_token=0.5), 48.0, 0.95)
    hours = range(24)
    bound = pd.DataFrame({"usd_per_hour": [1 + h % 3 for h in hours], "rate_per_s": [10 + h for h in hours]})
    over_time = {name: [(h / 2, 2.0 + i + h % 4) for h in range(48)] for i, name in enumerate(Autoscaling().scalers)}
    drawn = figure(table, bound, over_time, 0.95)
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert len(labels) == len(set(labels)) == 5 + 2 + 1 + 1
    (png, _) = save(drawn, tmp_path / "autoscaling")
    assert png.stat().st_size > 20_000


def test_the_small_version_is_one():
    values = read_experiment(ROOT / "experiments" / "autoscaling.yaml", set(groups())).values
    words = [f"{field}={literal(value)}" for field, value in values["small"].items() if "." in field]
    settings = settings_of(*words)
    own = {field: value for field, value in values["small"].items() if "." not in field and field != "seeds"}
    study = Autoscaling(**{name: tuple(map(tuple, v)) if name == "fixed" else v for name, v in own.items()})
    assert settings.choices["dynamics"].fields["over_s"] * study.compressed == 86_400.0
    assert [policy for policy, _, _ in study._policies(settings)] == ["fixed 2+1+0", "fixed 4+2+0", *study.scalers]


def test_times_of_scalers_are_compressed_and_boots_too():
    study = Autoscaling(("forecast",), ((2, 1, 0),), slow_boots=10.0, faster=48.0)
    by_name = {name: settings.plain() for name, _, settings in study._policies(settings_of())}
    assert list(by_name) == ["fixed 2+1+0", "forecast", "forecast, boots x10"]
    scaler = by_name["forecast"]["scaler"]
    assert (scaler["interval_s"], scaler["bin_s"], scaler["buffer"]) == (60 / 48, 60 / 48, 0.1)
    slots = by_name["forecast"]["pool"]["slots"]
    assert (slots["process_s"], slots["disk_gb_per_s"]) == (pytest.approx(58 / 48), pytest.approx(1.3 * 48))
    slow = by_name["forecast, boots x10"]["pool"]["slots"]
    assert (slow["process_s"], slow["disk_gb_per_s"]) == (pytest.approx(580 / 48), pytest.approx(1.3 * 4.8))
    assert [group["count"] for group in by_name["fixed 2+1+0"]["pool"]["instances"]] == [2, 1]


def test_comparisons_are_paired_and_the_frontier_is_one():
    rows = [
        *(("fixed 1", "fixed", seed, 10.0, share) for seed, share in enumerate((0.97, 0.95))),
        *(("fixed 2", "fixed", seed, 20.0, share) for seed, share in enumerate((1.0, 1.0))),
        *(("wva", "scaler", seed, usd, share) for seed, (usd, share) in enumerate(((6.0, 0.95), (7.0, 0.94)))),
        *(("melange", "scaler", seed, 12.0, share) for seed, share in enumerate((0.9, 0.9))),
    ]
    runs = pd.DataFrame(rows, columns=["policy", "kind", "seed", "usd_per_day", "attainment"])
    runs = runs.assign(starts=2.0, joule_per_token=0.5)
    table = compared(runs, 5.0, 0.95)
    assert set(table["against"]) == {"fixed 1"}
    assert table.set_index("policy")["frontier"].to_dict() == {
        "fixed 1": True,
        "fixed 2": True,
        "wva": True,
        "melange": False,
    }
    wva = table.set_index("policy").loc["wva"]
    assert (wva["saves_usd"], wva["loses"], wva["over_bound"]) == (pytest.approx(3.5), pytest.approx(0.015), 1.3)
    said = notes(table, 0.95)
    assert said[0].startswith("the cheapest fixed 1 holds 95%: 10.00 USD a day, 96.0% in time, 2.00 times")
    assert said[1].startswith("wva: 35% cheaper (")
    assert said[2].startswith("melange: 20% dearer (20% to 20%), 6.0 points fewer in time")
    assert said[-1] == "on the frontier, cheapest first: wva, fixed 1, fixed 2"


def offers():
    engine = EngineConfig()
    made = []
    for name, count in (("a40", 2), ("a800", 2)):
        profile = load_profile(f"{name}-llama-3.1-8b")
        made.append(Offer(Server.of(name, profile.latency, engine.resolve(profile)), profile.price_per_hour, count))
    return made


def jobs(n: int, every_s: float, slo_s: float, output: int) -> list[Job]:
    return [Job(Request(i, i * every_s, 100, 4096, slo_s), output) for i in range(n)]


@pytest.mark.parametrize(("every_s", "slo_s", "output"), [(0.05, 6.0, 100), (0.02, 6.0, 300), (0.2, 3.0, 200)])
def test_the_cheapest_pool_by_the_bound_is_the_cheapest_that_is_not_excluded(every_s, slo_s, output):
    load, on_offer = jobs(60, every_s, slo_s, output), offers()
    found = cheapest_pool(load, on_offer, 0.95, QUICK)
    passing = []
    for mixture in itertools.product(range(3), range(3)):
        pool = [offer.server for count, offer in zip(mixture, on_offer, strict=True) for _ in range(count)]
        if pool and upper_bound(load, pool, QUICK).attainment >= 0.95:
            passing.append(sum(n * offer.usd_per_hour for n, offer in zip(mixture, on_offer, strict=True)))
    assert found.usd_per_hour == pytest.approx(min(passing))


def test_a_load_that_nothing_serves_takes_the_whole_offer_and_says_so():
    found = cheapest_pool(jobs(10, 0.1, 0.01, 100), offers(), 0.95, QUICK)
    assert (found.counts, found.attainment) == ((2, 2), 0.0)
    assert cheapest_pool([], offers(), 0.95).usd_per_hour == 0.0
    with pytest.raises(ConfigError, match="no later turns"):
        cheapest_pool([Job(Request(0, 0.0, 1, 1, 1.0), 1, after=(Dependency(1, 0.0),))], offers(), 0.95)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scalers": ("luck",)}, "scalers: 'luck' is unknown; allowed: feasible_supply, forecast"),
        ({"fixed": ()}, "fixed is empty"),
        ({"hours": 0}, "hours must be 1 or more"),
    ],
)
def test_what_cannot_be_asked_is_said(fields, said):
    with pytest.raises(ConfigError) as error:
        Autoscaling(**fields)
    assert said in str(error.value)
    with pytest.raises(ConfigError, match="a number for each of the 3 entries"):
        list(Autoscaling(fixed=((1, 9, 0),))._policies(settings_of()))
