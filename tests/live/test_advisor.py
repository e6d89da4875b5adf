"""A router inside another gateway: it is asked, it is told, and its books end empty."""

from __future__ import annotations

import pytest

from gsim.core import ConfigError, build
from gsim.gateway.policies import Policies
from gsim.serve.advisor import Advisor, advisor

TWO = ("a40-llama-3.1-8b", "h800-llama-3.1-8b")


def test_it_counts_what_it_was_told():
    one = advisor("least_request", TWO)
    view = one.gateway.view
    first, second = one.ask("a", "some words", 10), one.ask("b", "some words", 10)
    assert {first, second} == {0, 1}
    assert view.in_flight.tolist() == [1, 1]
    one.first_token("a")
    one.ended("a", 7)
    assert view.in_flight[first] == 0
    assert one.ask("c", "more", 10) == first
    one.ended("b", None)
    one.ended("c", 3)
    one.ended("c", 3)
    one.first_token("never asked")
    assert view.in_flight.tolist() == view.in_flight_prefill_tokens.tolist() == [0, 0]
    assert not one.gateway.active


def test_it_learns_lengths_and_speeds():
    clock = [0.0]
    policies = Policies(
        build("router", "goodserve", hope=0.0), build("predictor", "history", min_samples=1), build("estimator", "ema")
    )
    known = advisor("fastest", TWO)
    one = Advisor(policies, known_servers(), lambda: clock[0])
    before = one.gateway.view.tpot_s.copy()
    assert known.ask("x", "a prompt", 100) == 1
    # A loose objective is met by the weak card, a tight one by the strong one alone.
    assert one.ask("loose", "a prompt", 100, slo_s=1e3) == 0
    assert one.ask("tight", "a prompt", 100, slo_s=1.5) == 1
    clock[0] = 1.0
    one.first_token("loose")
    clock[0] = 60.0
    one.ended("loose", 90)
    assert one.gateway.view.tpot_s[0] > before[0]
    assert policies.predictor._windows


def known_servers():
    from gsim.latency import load_profile
    from gsim.serve.discover import ServerFacts

    profiles = [load_profile(name) for name in TWO]
    return [ServerFacts("", p.name, p.model.name, p.max_model_len, p.kv_tokens, 16, p) for p in profiles]


def test_what_is_held_goes_nowhere():
    one = advisor("least_request", TWO)
    one.gateway.view.available[:] = False
    assert one.ask("a", "some words", 10) is None
    assert not one.gateway.active


def test_what_needs_gauges_is_refused():
    with pytest.raises(ConfigError, match="no gauges are read"):
        advisor("least_load", TWO)
