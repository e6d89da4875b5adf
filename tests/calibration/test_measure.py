"""The harness against a server with a known law, in virtual time: what it measures is what the law says."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_engine import FakeEngine, FakeServer, InProcess, Sequence, asked_of, card_law, run_virtually

from gsim.calibration.answer import Stream
from gsim.calibration.iterations import held_up, step_of
from gsim.calibration.measure import measure, relative_half_width
from gsim.calibration.options import MeasureOptions
from gsim.calibration.raw import Measurement, RawStore
from gsim.calibration.report import report_folder
from gsim.calibration.retries import ServerError
from gsim.core import Batch, Chunk, ConfigError, InputError


def options(out: Path, **changes: object) -> MeasureOptions:
    grid = {"prefill_tokens": [32, 128, 384], "prefill_contexts": [0, 256]}
    grid |= {"decode_batches": [1, 4, 8], "decode_contexts": [64, 512]}
    return asked_of(out, **{"max_concurrency": 9, "max_context_tokens": 1024, "max_repeats": 3, **grid, **changes})


def campaign(asked: MeasureOptions, **server: object) -> tuple[str, FakeServer]:
    engine = {name: server.pop(name) for name in list(server) if name in FakeEngine.__dataclass_fields__}

    async def main() -> tuple[str, FakeServer]:
        fake = FakeServer(FakeEngine(**{"law": card_law, **engine}), **server)
        return await measure(asked, InProcess(fake)), fake

    return run_virtually(main())


def expected_s(m: Measurement) -> float:
    chunks = (Chunk(m.chunk_tokens, m.context_tokens if m.kind == "prefill" else 0),) if m.chunk_tokens else ()
    context = round(m.sequences * m.actual_context_tokens) if m.sequences else 0
    return card_law(Batch(chunks, m.sequences, context, 0))


def test_the_law_is_recovered_at_every_point(tmp_path):
    summary, _ = campaign(options(tmp_path))
    measured = RawStore(tmp_path).read()
    assert {m.kind for m in measured} == {"prefill", "decode", "mixed"}
    assert all(not m.dropped for m in measured)
    for m in measured:
        assert m.iteration_s == pytest.approx(expected_s(m), rel=1e-3), m
    assert "0 repeats dropped" in summary
    assert len(pd.read_parquet(tmp_path / "raw.parquet")) == len(measured)


def test_prefills_are_timed_by_the_engine_and_never_cached(tmp_path):
    campaign(options(tmp_path), api_s=0.05)
    prefills = [m for m in RawStore(tmp_path).read() if m.kind == "prefill"]
    assert {m.basis for m in prefills} == {"server"}
    for m in prefills:
        # The client also saw the API in front of the engine; the iteration does not hold it.
        assert m.client_s == pytest.approx(m.server_s + 0.05, rel=1e-6)


def test_without_metrics_the_limits_are_asked_for_and_the_client_keeps_time(tmp_path):
    with pytest.raises(ConfigError, match=r"kv_blocks=\.\.\. and block_size=\.\.\."):
        campaign(options(tmp_path), has_metrics=False)
    asked = options(tmp_path, kv_blocks=4096, block_size=16)
    campaign(asked, has_metrics=False)
    assert {m.basis for m in RawStore(tmp_path).read()} == {"client"}
    report = report_folder(tmp_path)
    assert "Prefills were timed by the client" in report
    assert "The API adds" not in report


def test_the_server_never_sees_more_than_was_allowed(tmp_path):
    _, fake = campaign(options(tmp_path, max_concurrency=5, decode_batches=[1, 2, 4]))
    assert fake.engine.most_running <= 5


def test_another_load_is_noticed_and_its_repeats_dropped(tmp_path):
    async def main() -> None:
        engine = FakeEngine()

        async def somebody_else() -> None:
            for _ in range(40):
                await asyncio.sleep(0.25)
                engine.submit(Sequence(tuple(range(50)), 3))

        other = asyncio.create_task(somebody_else())
        await measure(options(tmp_path), InProcess(FakeServer(engine)))
        other.cancel()

    run_virtually(main())
    measured = RawStore(tmp_path).read()
    dropped = [m for m in measured if m.dropped]
    assert dropped
    assert all("another load" in m.dropped or "prefix cache" in m.dropped for m in dropped)
    for m in measured:
        if not m.dropped:
            assert m.iteration_s == pytest.approx(expected_s(m), rel=1e-3), m


def test_a_server_that_is_busy_for_good_is_said_to_be(tmp_path):
    async def main() -> None:
        engine = FakeEngine()
        engine.submit(Sequence(tuple(range(50)), 10**9))
        await measure(options(tmp_path, patience_s=1.0), InProcess(FakeServer(engine)))

    with pytest.raises(ServerError, match="another load keeps the server busy"):
        run_virtually(main())


def test_noise_is_repeated_until_the_median_is_tight(tmp_path):
    rng = np.random.default_rng(3)
    noisy = options(tmp_path, min_repeats=4, max_repeats=40, tight=0.03, checks=0)
    campaign(noisy, law=lambda batch: card_law(batch) * rng.lognormal(0.0, 0.05))
    by_point: dict[str, list[Measurement]] = {}
    for m in RawStore(tmp_path).read():
        by_point.setdefault(m.point.key, []).append(m)
    counts = {key: len(ms) for key, ms in by_point.items()}
    assert max(counts.values()) > 4
    errors = [np.median([m.iteration_s for m in ms]) / expected_s(ms[0]) - 1 for ms in by_point.values()]
    # 95 % intervals of 3 %, read off few repeats: nearly all inside twice that.
    assert np.mean(np.abs(errors) < 0.06) > 0.9


def test_the_order_is_random_and_repeats_under_a_seed(tmp_path):
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        campaign(options(tmp_path / name, seed=seed))
        orders.append([m.point.key for m in RawStore(tmp_path / name).read() if not m.check])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    with pytest.raises(ServerError, match=r"ordered fault 400"):
        campaign(options(tmp_path), fault=lambda n: "400" if n == 60 else "")
    kept = RawStore(tmp_path).read()
    assert kept
    assert (tmp_path / "raw.parquet").exists()
    # A crash in the middle of a line costs that line only.
    with (tmp_path / "measurements.jsonl").open("a") as file:
        file.write('{"kind": "pref')
    campaign(options(tmp_path))
    measured = RawStore(tmp_path).read()
    assert measured[: len(kept)] == kept
    repeats = [(m.point, m.repeat) for m in measured]
    assert len(set(repeats)) == len(repeats)
    again, fake = campaign(options(tmp_path))
    assert fake.completions == 0
    assert again.startswith(f"{len(measured)} measurements")


def test_a_folder_of_another_server_is_refused(tmp_path):
    campaign(options(tmp_path))
    with pytest.raises(InputError, match="holds measurements with kv_blocks = 4096, the server now has 2048"):
        campaign(options(tmp_path), kv_blocks=2048)


def test_max_seconds_is_kept(tmp_path):
    async def main() -> float:
        await measure(options(tmp_path, max_seconds=3.0), InProcess(FakeServer(FakeEngine())))
        return asyncio.get_running_loop().time()

    # The warm-up and the measurement under way are finished, nothing new is begun.
    assert run_virtually(main()) < 6.0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", "ordered fault 503"),
        ("cut", "cut short"),
        ("silent", "silent for 2 s"),
    ],
)
def test_a_failing_server_is_given_up_with_a_clear_message(tmp_path, fault, message):
    asked = options(tmp_path, timeout_s=2.0, max_failures=3)
    with pytest.raises(ServerError, match=f"{message}.*3 failures in a row"):
        campaign(asked, fault=lambda n: fault if n > 60 else "")
    kept = RawStore(tmp_path).read()
    assert kept
    assert len(pd.read_parquet(tmp_path / "raw.parquet")) == len(kept)


@pytest.mark.parametrize("fault", ["503", "cut", "silent"])
def test_a_single_failure_is_passed_over(tmp_path, fault):
    asked = options(tmp_path, timeout_s=2.0)
    campaign(asked, fault=lambda n: fault if n in (61, 90) else "")
    for m in RawStore(tmp_path).read():
        if not m.dropped:
            assert m.iteration_s == pytest.approx(expected_s(m), rel=1e-3)


def test_a_wrong_model_is_refused_with_what_is_served(tmp_path):
    with pytest.raises(ServerError, match="does not serve 'other'; it serves: fake-model"):
        campaign(options(tmp_path, model="other"))


def test_a_grid_outside_the_servers_limits_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"prefill_tokens must be in \[0, 512\] on this server, not 600"):
        campaign(options(tmp_path, prefill_tokens=[600]))


def test_the_half_width_shrinks_with_repeats_and_ignores_one_outlier():
    assert relative_half_width([1.0]) == math.inf
    rng = np.random.default_rng(0)
    few, many = rng.normal(1.0, 0.05, 5), rng.normal(1.0, 0.05, 80)
    assert relative_half_width(list(many)) < relative_half_width(list(few))
    steady = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99]
    assert relative_half_width([*steady, 9.0]) < 0.05


def test_a_client_that_reads_late_does_not_shorten_a_mixed_step():
    on_time = Stream([0.0, 0.01, 0.02, 0.06, 0.07], [1, 2, 3, 4, 5])
    late = Stream([0.0, 0.01, 0.0599, 0.06, 0.07], [1, 2, 3, 4, 5])
    lumped = Stream([0.0, 0.01, 0.06, 0.07], [1, 2, 4, 5])
    assert step_of(0.06, [on_time]) == pytest.approx((0.04, 2.0))
    assert step_of(0.06, [on_time, late, lumped]) == pytest.approx((0.04, 2.0))
    assert step_of(0.06, [late, lumped]) is None


def test_what_an_arrival_holds_up_is_read_off_the_plain_iterations_before_its_own():
    # The prompt is sent during the third iteration, which takes 4 ms more, and prefilled in the fifth.
    steady = [0.0, 0.01, 0.02, 0.034, 0.044, 0.084, 0.094, 0.104]
    stream = Stream(steady, list(range(1, 9)))
    assert held_up(0.025, 0.084, [stream, stream]) == pytest.approx([0.004, 0.004])
    assert held_up(0.036, 0.084, [stream]) == pytest.approx([0.0])
    # Its own iteration was under way when it was sent: nothing was seen.
    assert held_up(0.05, 0.084, [stream]) == []
