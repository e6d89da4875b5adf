"""The verdicts on the paper's claims follow from results, by the rules that the claims state."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsim.paper.chart import charts
from gsim.paper.claims import Claim, Verdict, claims
from gsim.paper.gains import gain_rows, gains, largest
from gsim.paper.points import runs_of_points
from gsim.paper.report import Report, Section, Table
from gsim.paper.report_html import html_report
from gsim.paper.report_markdown import section_page, verdicts_page
from gsim.report.loading import load
from gsim.report.wording import place

PAPER = "goodput_vs_rps_paper"


def runs(folder, goodput, rates=(10.0, 70.0), **metrics):
    """A sweep's runs: policy -> goodput per rate -> per seed."""
    rows = []
    for policy, by_rate in goodput.items():
        for rate, values in zip(rates, by_rate, strict=True):
            for seed, value in enumerate(values):
                row = {"experiment": "x", "trace.rate_per_s": rate, "router": policy, "rectifier": "none"}
                rows.append({**row, "policy": policy, "seed": seed, "goodput_rps": value, **metrics})
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
    (folder / "config.yaml").write_text("name: x\n")
    return folder


def verdicts(experiment, folder):
    return {claim.claim: claim.verdict.value for claim in claims({experiment: folder}) if claim.found != "not run here"}


def test_what_was_not_run_is_out_of_reach():
    found = claims({})
    assert {claim.verdict for claim in found} == {Verdict.OPEN}
    assert {claim.found for claim in found} == {"not run here"}
    assert {f"Fig. {n}" for n in (1, 2, 4, 5, 6, 9, 11)} <= {claim.where for claim in found}


def test_gains_are_paired_and_a_control_that_serves_nobody_is_no_base(tmp_path):
    own, other = [[10, 12, 11], [66, 70, 68]], [[10, 12, 11], [55.01, 58.99, 57]]
    runs(tmp_path, {"GoodServe": own, "slow": other, "none": [[0, 0, 0], [0, 0, 0]]})
    found = gains(load(tmp_path))
    assert {gain.over for gain in found} == {"slow"}
    best = largest(found)
    assert best.point == {"trace.rate_per_s": 70.0}
    # All differences are 11 or nearly so: paired, the interval is narrow though the runs differ by 4.
    assert best.share == pytest.approx(11 / 57)
    assert best.high - best.low < 0.002
    assert best.significant
    assert not found[0].significant
    row = gain_rows(load(tmp_path))[0]
    assert row[0] == "slow"
    assert row[1].startswith("+19.3% [+19.")
    assert row[2:] == ["70", "+0.0% [+0.0%, +0.0%]", "10"]


def test_where_sessions_come_there_is_no_gain_without_a_level(tmp_path):
    goodput = {"GoodServe": [[10, 12], [66, 70]], "slow": [[9, 11], [55, 59]]}
    grows = {"latency_drift": 1.2, "requests_drift": 1.2, "growth_requests_per_s": 2.0}
    runs(tmp_path / "single", goodput, **grows)
    assert len(gains(load(tmp_path / "single"))) == 2
    runs(tmp_path / "agents", goodput, **grows, session_attainment=0.5)
    assert gains(load(tmp_path / "agents")) == []
    assert gain_rows(load(tmp_path / "agents")) == []


def test_a_gain_is_seen_not_seen_or_left_open(tmp_path):
    base = [[10.0, 10.1, 9.9], [50.0, 51.0, 49.0]]
    goodput = {
        "GoodServe": [[10.0, 10.1, 9.9], [75.0, 76.1, 73.9]],
        "far": base,
        "near": [base[0], [68.0, 69.0, 67.0]],
        "wild": [base[0], [20.0, 70.0, 110.0]],
        "GoodServe without migration": [[9.0, 9.11, 8.89], [75.0, 76.0, 74.0]],
    }
    found = verdicts(PAPER, runs(tmp_path, goodput, upper_bound=100.0, regret_to_bound=20.0))
    assert found["up to 27.4% more goodput than far"] == "seen here"
    assert found["up to 27.4% more goodput than near"] == "not seen here"
    assert found["up to 27.4% more goodput than wild"] == "left open"
    assert found["migrating requests at risk raises goodput"] == "seen here"
    regret = next(c for c in claims({PAPER: tmp_path}) if c.where == "Eq. 1")
    assert "20.0% at 10, 20.0% at 70 requests/s" in regret.found


def test_existing_strategies_are_held_against_the_plan(tmp_path):
    goodput = {
        "GoodServe": [[9.9, 9.9, 9.8], [76.0, 77.0, 75.0]],
        "Plan": [[10.0, 10.0, 10.0], [78.0, 79.0, 77.0]],
        "fastest": [[10.0, 10.0, 10.0], [70.0, 71.1, 68.9]],
        "least_request": [[7.0, 7.0, 7.0], [40.0, 41.0, 39.0]],
        "ilp_rolling": [[10.0, 10.0, 10.0], [78.0, 79.0, 77.0]],
    }
    found = verdicts("routing_strategies", runs(tmp_path, goodput))
    assert found == {
        "existing strategies fall short of a better assignment, at offered load 10 requests/s": "not seen here",
        "existing strategies fall short of a better assignment, at offered load 70 requests/s": "seen here",
    }


def test_tables_of_studies_are_judged(tmp_path):
    def table(name, rows):
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)

    rows = [("a", 1, 100.0), ("a", 8, 150.0), ("b", 1, 300.0), ("b", 8, 500.0)]
    table("latency_vs_batch", [dict(zip(("gpu", "batch", "mean_e2el_ms"), row)) for row in rows])
    assert list(verdicts("latency_vs_batch", tmp_path).values()) == ["seen here"]
    rows = [("alpha 0.2", "tpot_s", 0.05), ("nominal (control)", "tpot_s", 0.2), ("alpha 0.2", "ttft_s", 0.3)]
    rows.append(("nominal (control)", "ttft_s", 0.4))
    table("results", [dict(zip(("estimator", "quantity", "mae_over_mean"), row), phase="all") for row in rows])
    assert list(verdicts("ema_estimation", tmp_path).values()) == ["seen here", "not seen here"]
    rows = [
        ("10g", "token_ids", 300.0),
        ("10g", "kv_copy", 400.0),
        ("100g", "token_ids", 300.0),
        ("100g", "kv_copy", 60.0),
    ]
    table(
        "migration_latency",
        [dict(zip(("link", "mechanism", "to_target_ms"), row), background_rps=0.0) for row in rows],
    )
    assert list(verdicts("migration_latency", tmp_path).values()) == ["seen here", "not seen here"]
    row = {"policy": "goodserve+risk_monitor", "decision_p50_us": 5.0, "router_core_share": 0.4}
    sizes = [(512, 10_000.0, 20.0), (8, 156.0, 10.0)]
    table("router_scalability", [{**row, "instances": n, "rate_per_s": r, "decision_p99_us": p} for n, r, p in sizes])
    assert list(verdicts("router_scalability", tmp_path).values()) == ["seen here"]
    table("router_scalability", [{**row, "instances": 8, "rate_per_s": 156.0, "decision_p99_us": 10.0}])
    assert list(verdicts("router_scalability", tmp_path).values()) == ["left open"]


def test_points_are_told_in_words():
    assert place([{"trace.rate_per_s": 10.0}, {"trace.rate_per_s": 50.5}]) == "offered load 10, 50.5 requests/s"
    assert place([{"slo.seconds": 6, "predictor": "oracle"}]) == "E2E SLO 6 s, predictor oracle"
    assert place([{}]) == ""


def test_the_report_says_claims_first_in_both_formats():
    claim = Claim("Fig. 6", "x", "more <goodput>", Verdict.NOT_SEEN, "+3 % | [1, 5]")
    section = Section("x", "Why?", "", "Pool: a.", "python -m gsim", (), (Table("t", ["a"], [["1"]]),), ["so it is"])
    report = Report("Title", "intro", [claim], [section], "footer")
    page = html_report(report)
    assert page.index("not seen here") < page.index('href="#x">x</a><span>Why?') < page.index('<section id="x">')
    assert "more &lt;goodput&gt;" in page
    text = verdicts_page(report, "pages")
    assert "| Fig. 6 | more \\<goodput\\> ([x](pages/x.md)) | not seen here | +3 % \\| \\[1, 5\\] |" in text
    assert text.index("not seen here") < text.index("- [x](pages/x.md): Why?")
    assert "- so it is\n" in section_page(section, "../report.md", "figures")


def test_a_sweep_is_drawn_so_that_it_can_be_asked(tmp_path):
    goodput = {"<Good>": [[10.0, 10.1, 9.9], [75.0, 76.0, 74.0]], "fastest": [[10.0, 10.1, 9.9], [60.0, 61.0, 59.0]]}
    (tmp_path / "config.yaml").write_text("figure: {x: trace.rate_per_s, y: [goodput_rps]}")
    page = charts(load(runs(tmp_path, goodput)))
    assert page.count("<polyline") == 2 * page.count("<figure>")
    assert page.count('type="checkbox"') == 2
    assert "&lt;Good&gt;\nOffered load (requests/s) 70: 75.0 ±2.48" in page
    assert "<Good>" not in page


def test_a_point_leads_to_its_runs_and_a_run_to_its_story(tmp_path):
    goodput = {"<Good>": [[10.0, 10.1], [75.0, 76.0]], "fastest": [[10.0, 10.1], [60.0, 61.0]]}
    (tmp_path / "config.yaml").write_text("figure: {x: trace.rate_per_s, y: [goodput_rps]}")
    late = {"status": "finished", "counted": True, "good": False, "arrival_s": 0.0, "dispatched_s": 0.0, "slo_s": 1.0}
    late |= {"first_token_s": 1.8, "finished_s": 2.0, "generated_tokens": 3, "predicted_tokens": np.nan}
    late |= {"migrations": 0, "preemptions": 0, "trace.rate_per_s": 70.0, "policy": "fastest", "seed": 1}
    rows = [late | {"request_id": 7}, late | {"request_id": 8, "migrations": 1, "finished_s": 9.0}]
    rows += [late | {"request_id": 9, "seed": 0}, late | {"request_id": 10, "good": True}]
    pd.DataFrame(rows).to_parquet(runs(tmp_path, goodput) / "requests.parquet")
    results = load(tmp_path)
    links, told = runs_of_points(results, "x", "python -m gsim experiment=x trace.rate_per_s=10,70")
    assert list(links.values()) == ["x-0", "x-1", "x-2", "x-3"]
    own = told[told.index('id="x-3"') :]
    assert "fastest: offered load 70 requests/s" in own
    why = "<td>moved 1, queue and prefill 1</td><td>8 (moved), 7 (queue and prefill)</td>"
    assert f"<td>1</td><td>61.0</td><td>2</td>{why}" in own
    assert "python -m gsim page experiment=x policy=fastest trace.rate_per_s=70 seed=SEED" in own
    assert "<td>2</td>" not in told[: told.index('id="x-3"')]
    page = charts(results, links)
    assert [page.count(f'href="#x-{i}"') for i in range(4)] == [1, 1, 1, 1]
