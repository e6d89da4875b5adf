"""Validation: a load that calibration did not see, against a fake server whose law the profile was measured on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_engine import FakeEngine, FakeServer, InProcess, asked_of, card_law, run_virtually

from benchmarks.live_steps import beyond_ms, steps
from benchmarks.live_steps import main as live_steps
from gsim.calibration.fit import read_overhead
from gsim.calibration.measure import measure
from gsim.calibration.options import JudgeOptions, ValidateOptions
from gsim.calibration.report import report_folder
from gsim.core import ConfigError, InputError
from gsim.latency import load_profile
from gsim.validation.judgement import by_overlap, compare, overlap_markdown
from gsim.validation.live_load import draw_load, simulate
from gsim.validation.validate import judge, validate


def server(slower: float = 1.0) -> InProcess:
    return InProcess(FakeServer(FakeEngine(lambda batch: slower * card_law(batch), api_s=0.004)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("validation")
    asked = asked_of(out, max_num_seqs=64, max_concurrency=33, max_context_tokens=1200, max_repeats=2)
    run_virtually(measure(asked, server()))
    report_folder(out)
    return out


def test_live_and_simulated_agree_where_the_profile_is_right(folder):
    asked = ValidateOptions(
        url="http://fake:1", out=str(folder), requests=100, rate_per_s=12.0, repeats=2, async_scheduling=False
    )
    text = run_virtually(validate(asked, server()))
    judged = pd.read_csv(folder / "validation.csv")
    assert len(judged) == 9
    # Two schedulers that were written apart, a fitted profile between them, a load of up to some 15 sequences.
    assert judged.loc[judged["metric"] == "e2e", "diff_percent"].abs().max() < 2.0
    assert judged["diff_percent"].abs().max() < 5.0
    assert (judged["verdict"] == "yes").all()
    assert "| E2E | p90 |" in text
    runs = pd.read_parquet(folder / "validation_requests.parquet")["run"].value_counts()
    assert runs.to_dict() == {"live 1": 100, "live 2": 100, "simulated": 100}
    assert (folder / "validation.png").stat().st_size > 5000


def test_a_server_that_changed_since_is_found_out(folder):
    asked = ValidateOptions(
        url="http://fake:1", out=str(folder), requests=60, repeats=2, name="slower", async_scheduling=False
    )
    run_virtually(validate(asked, server(slower=1.2)))
    judged = pd.read_csv(folder / "slower.csv")
    assert (judged.loc[judged["metric"] == "e2e", "verdict"] == "no").all()
    assert judged.loc[judged["metric"] == "tpot", "diff_percent"].max() == pytest.approx(-100 * 0.2 / 1.2, abs=3.0)


def test_scheduling_one_ahead_costs_an_arrival_part_of_an_iteration_and_decoding_nothing(folder):
    meta = json.loads((folder / "meta.json").read_text())
    load = draw_load(ValidateOptions(url="http://fake:1", rate_per_s=12.0))
    profile, overhead = load_profile(folder / "profile.yaml"), read_overhead(folder)
    ahead, after = (
        simulate(profile, meta["block_size"], load, overhead, async_scheduling=ahead) for ahead in (True, False)
    )
    later_s = (ahead["ttft_s"] - after["ttft_s"]).mean()
    assert 0.0 < later_s < after["tpot_s"].mean()
    assert ahead["tpot_s"].mean() == pytest.approx(after["tpot_s"].mean(), rel=0.02)


def test_the_same_seed_draws_the_same_load():
    asked = ValidateOptions(url="http://fake:1", seed=5)
    assert draw_load(asked) == draw_load(asked)
    assert draw_load(asked) != draw_load(ValidateOptions(url="http://fake:1", seed=6))


def test_recorded_replays_judge_again_without_the_server(folder):
    asked = ValidateOptions(url="http://fake:1", out=str(folder), requests=40, rate_per_s=12.0, repeats=2, name="kept")
    run_virtually(validate(asked, server()))
    judge(JudgeOptions(out=str(folder), name="kept"))
    live, again = (pd.read_csv(folder / f"{name}.csv") for name in ("kept", "kept-judged"))
    pd.testing.assert_frame_equal(live, again)
    # Another profile is judged by the same replays.
    content = yaml.safe_load((folder / "profile.yaml").read_text())
    content["latency"]["overhead_ms"] = 2.0
    (folder / "slower.yaml").write_text(yaml.safe_dump(content))
    judge(JudgeOptions(out=str(folder), name="kept", profile=str(folder / "slower.yaml"), to="slow"))
    slow = pd.read_csv(folder / "slow.csv")
    assert (slow["live_ms"] == live["live_ms"]).all()
    assert (slow["simulated_ms"] > live["simulated_ms"]).all()
    with pytest.raises(InputError, match=r"no live replays called 'other' \(no other_requests.parquet\)"):
        judge(JudgeOptions(out=str(folder), name="other"))


def test_every_token_of_a_replay_is_kept(folder):
    asked = ValidateOptions(url="http://fake:1", out=str(folder), requests=20, repeats=2, name="tokens")
    run_virtually(validate(asked, server()))
    requests, tokens = (pd.read_parquet(folder / f"tokens_{what}.parquet") for what in ("requests", "tokens"))
    for run in ("live 1", "live 2"):
        rows = requests[requests["run"] == run].reset_index(drop=True)
        last = tokens[tokens["run"] == run].groupby("request")[["time_s", "tokens"]].max()
        assert last["tokens"].tolist() == rows["output_tokens"].tolist()
        assert last["time_s"].to_numpy() == pytest.approx((rows["sent_s"] + rows["e2e_s"]).to_numpy())


def test_iterations_are_read_off_recorded_tokens(folder, capsys):
    """A server whose mixed iterations take 2 ms more than when it was calibrated."""

    def law(batch):
        return card_law(batch) + (0.002 if batch.chunks and batch.decodes else 0.0)

    asked = ValidateOptions(url="http://fake:1", out=str(folder), requests=60, rate_per_s=6.0, repeats=2, name="steps")
    run_virtually(validate(asked, InProcess(FakeServer(FakeEngine(law, api_s=0.004)))))
    requests, tokens = (pd.read_parquet(folder / f"steps_{what}.parquet") for what in ("requests", "tokens"))
    one = "live 1"
    latency = load_profile(folder / "profile.yaml").latency
    table = steps(requests[requests["run"] == one].reset_index(drop=True), tokens[tokens["run"] == one], latency)
    table["beyond_ms"] = beyond_ms(table)
    known = table[table["plain"]].dropna()
    mixed = known["chunk"] > 0
    assert mixed.sum() > 15
    assert (~mixed).sum() > 500
    assert known.loc[mixed, "beyond_ms"].median() == pytest.approx(2.0, abs=0.2)
    assert known.loc[~mixed, "beyond_ms"].abs().max() < 0.2
    assert live_steps([str(folder), "steps"]) == 0
    assert "mixed, by decodes" in capsys.readouterr().out


def test_an_arrival_that_holds_the_engine_up_costs_whoever_decodes(folder):
    meta = json.loads((folder / "meta.json").read_text())
    load = draw_load(ValidateOptions(url="http://fake:1", rate_per_s=4.0, requests=200))
    profile, overhead = load_profile(folder / "profile.yaml"), read_overhead(folder)
    free, held = (simulate(profile, meta["block_size"], load, overhead, arrival_s=at) for at in (0.0, 0.003))
    later_s = (held["e2e_s"] - free["e2e_s"]).to_numpy()
    sent, end = free["sent_s"].to_numpy(), (free["sent_s"] + free["e2e_s"]).to_numpy()
    arrives_during = (sent[:, None] < sent) & (sent < end[:, None])
    met, joins = arrives_during.sum(axis=1), arrives_during.any(axis=0)
    # Who meets nobody is held up by nobody; else 3 ms for each that arrives, its own arrival beside others included.
    alone = (met == 0) & ~joins
    assert alone.sum() > 20
    assert np.abs(later_s[alone]).max() == pytest.approx(0.0, abs=1e-9)
    assert later_s.mean() == pytest.approx(0.003 * (met + joins).mean(), rel=0.2)
    with pytest.raises(ConfigError, match="arrival_ms"):
        JudgeOptions(arrival_ms=1.0, async_scheduling=False).validate()


def test_a_load_that_does_not_fit_is_refused_before_it_is_sent(folder):
    asked = ValidateOptions(url="http://fake:1", out=str(folder), prompt_tokens=[4000, 5000])
    with pytest.raises(InputError, match="does not fit the server's 2048"):
        run_virtually(validate(asked, server()))


def test_a_folder_without_a_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="run measure first"):
        run_virtually(validate(ValidateOptions(url="http://fake:1", out=str(tmp_path)), server()))


def table(*e2e_s: float) -> pd.DataFrame:
    return pd.DataFrame({"e2e_s": e2e_s, "ttft_s": e2e_s, "tpot_s": e2e_s})


def test_a_difference_holds_within_the_target_or_within_the_repeats_own_spread():
    def verdicts(low: float, high: float, simulated: float) -> set[str]:
        return set(compare([table(low, low), table(high, high)], table(simulated, simulated))["verdict"])

    assert verdicts(1.0, 1.0, 1.04) == {"yes"}
    assert verdicts(1.0, 1.0, 1.06) == {"no"}
    assert verdicts(0.95, 1.05, 1.06) == {"yes"}
    # A server that differs from itself by a fifth proves nothing, not even agreement.
    assert verdicts(0.9, 1.1, 1.0) == {"too noisy"}
    assert compare([table(0.9), table(1.1)], table(1.0))["spread_percent"].iloc[0] == pytest.approx(20.0)


def test_a_load_that_is_sent_again_has_prompts_that_the_server_has_not_seen(folder):
    one = server()
    asked = ValidateOptions(url="http://fake:1", out=str(folder), requests=20, repeats=2, name="first")

    async def twice() -> None:
        await validate(asked, one)
        await validate(dataclasses.replace(asked, name="second"), one)

    run_virtually(twice())
    first, second = (
        pd.read_parquet(folder / f"{name}_requests.parquet").groupby("run")["ttft_s"].mean().filter(like="live")
        for name in ("first", "second")
    )
    assert second.mean() == pytest.approx(first.mean(), rel=0.05)


def test_what_requests_do_to_one_another_is_told_apart():
    """One request alone, as simulated; two that overlap, live twice as slow."""
    live = pd.DataFrame({"sent_s": [0.0, 5.0, 5.1], "e2e_s": [1.0, 2.0, 2.0]})
    simulated = pd.DataFrame({"sent_s": [0.0, 5.0, 5.1], "e2e_s": [1.0, 1.0, 1.0]})
    groups = by_overlap([live, live], simulated)
    assert groups.to_dict(orient="list") == {"overlap": [0, 1], "requests": [2, 4], "diff_percent": [0.0, -50.0]}
    assert "| 1 | 4 | -50.0 % |" in overlap_markdown(groups)
