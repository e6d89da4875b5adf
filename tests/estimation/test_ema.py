"""The moving averages converge, count what was just sent, decay and age."""

from __future__ import annotations

import numpy as np
import pytest
from estimation_cases import Gateway, pool, request

from gsim.core import ConfigError, build


def serve(gateway: Gateway, prompts: list[int], base_s: float, s_per_token: float, instance: int = 0) -> None:
    """Requests one after another, each alone: TTFT = base + s_per_token * prompt."""
    for k, prompt in enumerate(prompts):
        one, sent_s = request(1000 + k, prompt), gateway.now_s
        gateway.send(one, instance)
        first_s = sent_s + base_s + s_per_token * prompt
        gateway.first_token(one, sent_s, first_s, instance)
        gateway.finish(one, sent_s, first_s, first_s + 1.0, 51, instance)


def test_converges_on_a_constant_stream():
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    prompts = np.random.default_rng(0).integers(100, 4000, 200).tolist()
    serve(gateway, prompts, base_s=0.05, s_per_token=0.0012)
    assert view.prefill_s_per_token[0] == pytest.approx(0.0012, rel=0.02)
    assert view.queue_s[0] == pytest.approx(0.05, rel=0.2)
    view.in_flight[0] = 8
    for k in range(60):
        gateway.estimator.streamed(0, 100, 4.0, gateway.now_s + k)
    assert view.tpot_s[0] == pytest.approx(0.04, rel=0.01)


def test_equal_prompts_leave_the_prefill_speed_nominal():
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    serve(gateway, [100] * 100, base_s=0.05, s_per_token=0.0012)
    # What the prompt's length explains cannot be told from a constant: together they are the time to first token.
    total = view.queue_s[0] + 100 * view.prefill_s_per_token[0]
    assert total == pytest.approx(0.05 + 0.12, rel=0.02)


def test_of_cached_prompts_it_learns_seconds_per_computed_token():
    """Three quarters of every prompt are cached: learned from whole prompts, a token takes a quarter of its time."""
    learned = {}
    for of in ("prompt", "computed"):
        view = pool()
        gateway = Gateway(build("estimator", "ema", prefill_of=of), view)
        for k, prompt in enumerate(np.random.default_rng(0).integers(1000, 9000, 200).tolist()):
            one, sent_s, cached = request(k, prompt), gateway.now_s, 3 * prompt // 4
            gateway.send(one)
            first_s = sent_s + 0.05 + 0.0012 * (prompt - cached)
            gateway.first_token(one, sent_s, first_s, cached_tokens=cached)
            gateway.finish(one, sent_s, first_s, first_s + 1.0, 51)
        learned[of] = view.prefill_s_per_token[0]
    assert learned["computed"] == pytest.approx(0.0012, rel=0.02)
    assert learned["prompt"] == pytest.approx(0.0003, rel=0.02)


def test_a_burst_counts_before_any_feedback():
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    idle = view.tpot_s[0]
    waits = []
    for k in range(30):
        gateway.send(request(k, 500))
        waits.append(view.queue_s[0])
    assert (np.diff(waits) > 0).all()
    assert waits[-1] == pytest.approx(30 * 500 * view.static.nominal_prefill_s_per_token[0])
    assert view.tpot_s[0] > idle
    assert view.queue_s[1] == 0.0


def test_the_pace_of_a_queue_is_learned_where_it_is_not_the_prefill_speed():
    """An instance that admits one waiting request per second, however short their prompts are."""
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    sent = [request(k, 100) for k in range(60)]
    for one in sent:
        gateway.send(one)
    for k, one in enumerate(sent[:50]):
        gateway.first_token(one, 0.0, k + 1.0)
    # Ten wait: a request that is sent now gets its turn in about ten seconds.
    assert view.queue_s[0] == pytest.approx(10.0, rel=0.35)


def test_the_queue_estimate_decays_while_nobody_waits():
    view = pool()
    gateway = Gateway(build("estimator", "ema", decay_s=5.0), view)
    serve(gateway, [100] * 30, base_s=4.0, s_per_token=0.0006)
    before = view.queue_s[0]
    assert before > 3.0
    gateway.estimator.refresh(gateway.now_s)
    before = view.queue_s[0]
    gateway.estimator.refresh(gateway.now_s + 5.0)
    assert view.queue_s[0] == pytest.approx(before / 2)
    gateway.estimator.refresh(gateway.now_s + 60.0)
    assert view.queue_s[0] < 0.01


def test_a_request_that_waits_for_too_long_is_news():
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    gateway.send(request(1))
    gateway.estimator.refresh(7.0)
    assert view.queue_s[0] == pytest.approx(7.0)
    gateway.first_token(request(1), 0.0, 7.5)
    assert view.queue_s[0] < 7.0


def test_a_request_that_was_taken_away_is_not_waited_for():
    view = pool()
    gateway = Gateway(build("estimator", "ema"), view)
    gateway.send(request(1))
    gateway.now_s = 0.05
    gateway.send(request(2))
    gateway.lose(request(1))
    gateway.first_token(request(2), 0.05, 0.1)
    gateway.send(request(3))
    gateway.estimator.refresh(50.0)
    assert view.queue_s[0] == pytest.approx(49.9)
    gateway.lose(request(3))
    gateway.estimator.refresh(51.0)
    assert view.queue_s[0] < 1.0


def test_tpot_drifts_back_to_nominal_without_news():
    view = pool()
    gateway = Gateway(build("estimator", "ema", batch_slope=0.0, stale_s=10.0), view)
    for k in range(50):
        gateway.estimator.streamed(0, 10, 3.0, k * 0.1)
    assert view.tpot_s[0] == pytest.approx(0.3, rel=0.01)
    for at_s in range(5, 205, 5):
        gateway.estimator.refresh(float(at_s))
    assert view.tpot_s[0] == pytest.approx(view.static.nominal_tpot_s[0], rel=0.02)


def test_completions_tell_where_no_stream_does():
    view = pool()
    gateway = Gateway(build("estimator", "ema", batch_slope=0.0, alpha=0.5), view)
    for k in range(20):
        gateway.send(request(k))
        gateway.first_token(request(k), gateway.now_s, gateway.now_s + 0.1)
        gateway.finish(request(k), gateway.now_s - 0.1, gateway.now_s, gateway.now_s + 10.0, 101)
    assert view.tpot_s[0] == pytest.approx(0.1, rel=0.01)


def test_smoothing_weighs_new_samples():
    for alpha in (0.1, 0.5, 1.0):
        view = pool()
        estimator = build("estimator", "ema", alpha=alpha, batch_slope=0.0)
        estimator.attach(view)
        estimator.streamed(0, 100, 10.0, 1.0)
        assert view.tpot_s[0] == pytest.approx((1 - alpha) * 0.06 + alpha * 0.1)


@pytest.mark.parametrize(
    "fields", [{"alpha": 0.0}, {"alpha": 1.5}, {"batch_slope": -1.0}, {"decay_s": 0.0}, {"stale_s": -1.0}]
)
def test_impossible_options_are_refused_by_name(fields):
    with pytest.raises(ConfigError, match=f"estimator.{next(iter(fields))}"):
        build("estimator", "ema", **fields)
