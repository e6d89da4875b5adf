"""A profile held against benchmarks of a server: what is found, what is written, what is refused and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsim.core import Batch, ConfigError, InputError, Job, Request
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.profile.__main__ import main
from gsim.validation.pipelined import replay
from gsim.validation.profile_check import check_profile
from gsim.validation.scaled import Scaled

NAME = "a40-llama-3.1-8b"
PROFILE = load_profile(NAME)


def bench(path: Path, factor: float, api_s: float, rate_per_s: float, seed: int, answer: int = 60) -> Path:
    """What a client saw of a server whose iterations take ``factor`` times the profile's."""
    rng = np.random.default_rng(seed)
    sent = np.cumsum(rng.exponential(1.0 / rate_per_s, 24))
    sent -= sent[0]
    prompts, outputs = rng.integers(50, 900, 24), rng.integers(min(20, answer), answer + 1, 24)
    jobs = [Job(Request(i, t, int(p), int(o), 1e9), int(o)) for i, (t, p, o) in enumerate(zip(sent, prompts, outputs))]
    seen = replay(jobs, Scaled(PROFILE.latency, factor), EngineConfig().resolve(PROFILE))
    gaps = (seen.last_token_s - seen.first_token_s) / np.maximum(outputs - 1, 1)
    result = {
        "input_lens": prompts.tolist(),
        "output_lens": outputs.tolist(),
        "start_times": (sent + 5e5).tolist(),
        "ttfts": (seen.first_token_s + api_s - sent).tolist(),
        "itls": [[float(gap)] * (int(n) - 1) for gap, n in zip(gaps, outputs)],
    }
    path.write_text(json.dumps(result))
    return path


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three loads of one server: iterations 1.12 times the profile's, 18 ms a request outside the engine."""
    folder = tmp_path_factory.mktemp("benches")
    return [str(bench(folder / f"{name}.json", 1.12, 0.018, rate, i)) for i, (name, rate) in enumerate(RATES.items())]


RATES = {"a": 0.5, "b": 2.0, "c": 4.0}


def test_two_results_fit_and_the_third_judges(benches: list[str]) -> None:
    found = check_profile(PROFILE, benches)
    assert found.factor == pytest.approx(1.12, abs=0.002)
    assert found.api_s == pytest.approx(0.018, abs=0.001)
    assert not found.cut
    judged = found.table[found.table.used == "judged"]
    assert set(judged.bench) == {"c.json"}
    assert judged.percent.abs().max() < 1.0
    plain = judged[(judged.metric == "TPOT") & (judged.statistic == "mean")].plain_percent
    assert float(plain.iloc[0]) < -8.0


def test_what_judges_is_not_looked_at(benches: list[str], tmp_path: Path) -> None:
    other = bench(tmp_path / "c.json", 1.3, 0.1, 4.0, 9)
    one, two = (check_profile(PROFILE, [*benches[:2], third]) for third in (benches[2], str(other)))
    assert (one.factor, one.api_s) == (two.factor, two.api_s)
    assert two.table[two.table.used == "judged"].percent.abs().max() > 5.0


def test_the_command_prints_both_and_writes_a_profile(
    benches: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.yaml"
    assert main(["check", f"profile={NAME}", f"bench=[{','.join(benches)}]", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "iterations x1.12" in printed
    assert "c.json (judged) TPOT mean" in printed
    mine = load_profile(out)
    assert mine.name == "mine"
    assert "all times x1.12" in mine.provenance.basis
    batch = Batch((), 8, 8 * 700, 700)
    assert mine.latency.iteration_s(batch) == pytest.approx(1.12 * PROFILE.latency.iteration_s(batch), rel=0.002)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", f"profile={NAME}"], "missing: bench=..."),
        (["check", "bench=[a.json]"], "missing: profile=..."),
        (["check", f"profile={NAME}", "speed=2"], "there is no option 'speed'; there are: profile, bench, out"),
        (
            ["check", f"profile={NAME}", "bench=a.json"],
            "bench must name 3 results or more (two fit, the others judge), not",
        ),
        (["check", f"profile={NAME}", "bench=[a.json,b.json]"], "bench must name 3 results or more (two fit"),
        (["check", f"profile={NAME}", "bench=[a.json,b.json,a.json]"], "bench names a result twice"),
        (["check", f"profile={NAME}", "bench=[a.json,b.json,c.csv]"], "cannot be read"),
        (["check", "profile=a41-llama", "bench=[a.json,b.json,c.json]"], "unknown profile 'a41-llama'"),
    ],
)
def test_what_is_asked_for_badly_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_another_server_s_results_are_refused(benches: list[str], tmp_path: Path) -> None:
    for factor, said in ((1.6, "1.60"), (0.6, "0.60")):
        slow = [str(bench(tmp_path / f"{name}.json", factor, 0.02, 1.0, i)) for i, name in enumerate("ab")]
        with pytest.raises(InputError, match=f"take {said} times what profile '{NAME}' says, and 0.8 to 1.35 are"):
            check_profile(PROFILE, [*slow, benches[2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {k: v[:5] for k, v in r.items()}, "holds 5 requests; 10 or more say something"),
        (
            lambda r: r | {"output_lens": [1] * 24, "itls": [[] for _ in range(24)]},
            "every answer has one token, so no time per output token",
        ),
        (lambda r: r | {"input_lens": [900_000] * 24}, "request 0 does not fit.*profile 'a40-llama-3.1-8b'"),
    ],
)
def test_results_that_say_nothing_are_refused(
    benches: list[str], tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(change(json.loads(Path(benches[0]).read_text()))))
    with pytest.raises(InputError, match=message):
        check_profile(PROFILE, [str(bad), *benches[1:]])
    text = tmp_path / "bad.csv"
    text.write_text("")
    with pytest.raises(InputError, match=r"bad.csv: must be a JSON file of vllm bench serve"):
        check_profile(PROFILE, [str(text), *benches[1:]])


def test_a_constant_below_nothing_is_nothing_and_said(tmp_path: Path, benches: list[str]) -> None:
    early = [str(bench(tmp_path / f"{name}.json", 1.0, -0.004, 1.0, i)) for i, name in enumerate("ab")]
    found = check_profile(PROFILE, [*early, benches[2]])
    assert found.api_s == 0.0
    assert "less than 0 would fit better" in str(found)


def test_only_a_profile_file_is_written_with_a_factor(benches: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "profile=docs", f"bench=[{','.join(benches)}]", "out=x.yaml"]
    assert main(words) == 1
    assert "only a profile's YAML file can be written with a factor" in capsys.readouterr().err


def test_nothing_is_fitted_without_enough_results() -> None:
    with pytest.raises(ConfigError, match="3 results or more"):
        check_profile(PROFILE, [])
