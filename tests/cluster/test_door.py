"""Invariant 15: every run ends, or says why it cannot; what never could is refused at the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan

import pytest
from cluster_cases import paper_pool, simulate_on
from hypothesis import given
from hypothesis import strategies as st

from gsim.cluster.arrivals import Arrivals
from gsim.cluster.door import Door, Seen
from gsim.cluster.instance import Instance
from gsim.core import Dependency, Job, Request, Session, SimulationError, TraceError


def request(number: int, session: int = 0, arrival_s: float = 0.0, **values: object) -> Request:
    return Request(number, arrival_s, 100, 20, 6.0, session_id=session)._replace(**values)


def turns(*after: tuple[int, ...], **values: object) -> Session:
    """A session whose turns wait for the turns of these numbers."""
    jobs = tuple(
        Job(request(i, arrival_s=nan if waits else 0.0), 5, after=tuple(Dependency(w, 0.1) for w in waits))
        for i, waits in enumerate(after)
    )
    return Session(0, 0.0, jobs)._replace(**values)


def single(**values: object) -> Session:
    return Session(0, 0.0, (Job(request(0, **values), 5),))


def job(**values: object) -> Session:
    return Session(0, 0.0, (Job(request(0), 5)._replace(**values),))


def dependent(on: object, delay_s: object) -> Job:
    return Job(request(1, arrival_s=nan), 5, after=(Dependency(on, delay_s),))  # type: ignore[arg-type]


REFUSED: list[tuple[Callable[[], list[Session]], str]] = [
    (lambda: [turns((), (7,))], "session 0, request 1: waits for request 7, which is not in its session"),
    (lambda: [turns((), (2,), (1,))], "session 0: requests 1, 2 wait for one another"),
    (lambda: [turns((), (1,))], "session 0: requests 1 wait for one another"),
    (lambda: [turns((1,), (0,))], "session 0: requests 0, 1 wait for one another"),
    (lambda: [turns((), (0,)), turns((), (0,))], "session 0: comes a second time"),
    (lambda: [single(), Session(1, 1.0, (Job(request(0, 1, 1.0), 5),))], "session 1, request 0: comes a second time"),
    (lambda: [Session(0, inf, (Job(request(0), 5),))], "session 0: arrives at inf s"),
    (lambda: [Session(0, nan, (Job(request(0), 5),))], "session 0: arrives at nan s"),
    (lambda: [Session(0, -1.0, (Job(request(0), 5),))], "session 0: arrives at -1.0 s"),
    (lambda: [single(arrival_s=nan)], "session 0, request 0: arrives at nan s"),
    (lambda: [single(arrival_s=inf)], "session 0, request 0: arrives at inf s"),
    (lambda: [single(prompt_tokens=0)], "session 0, request 0: prompt_tokens must be 1 or more, not 0"),
    (lambda: [single(prompt_tokens=-10)], "session 0, request 0: prompt_tokens must be 1 or more, not -10"),
    (lambda: [single(max_output_tokens=0)], "session 0, request 0: max_output_tokens must be 1 or more, not 0"),
    (lambda: [job(output_tokens=0)], "session 0, request 0: output_tokens must be 1 or more, not 0"),
    (lambda: [single(prompt_tokens=10.5)], "request 0: prompt_tokens must be an int, not 10.5"),
    (lambda: [single(slo_s=nan)], "session 0, request 0: slo_s must be greater than 0, not nan"),
    (lambda: [single(slo_s=-1.0)], "session 0, request 0: slo_s must be greater than 0, not -1.0"),
    (lambda: [turns((), (0,), slo_s=nan)], "session 0: slo_s must be greater than 0, not nan"),
    (lambda: [turns((), (0,), session_id=4)], "session 4, request 0: says that it belongs to session 0"),
    (lambda: [Session(0, 0.0, ())], "session 0: has no request"),
    (lambda: [_delayed(inf)], "session 0, request 1: waits for inf s"),
    (lambda: [_delayed(-1.0)], "session 0, request 1: waits for -1.0 s"),
    (lambda: [_delayed(nan)], "session 0, request 1: waits for nan s"),
    (lambda: [single(content=((1, 130), (2, -30)))], "session 0, request 0: a piece of content has -30 tokens"),
    (lambda: [single(content=((1, 100.0),))], "content must be pairs of ints"),
    (lambda: [single(content=((1, 50),))], "its content has 50 tokens, and its prompt 100"),
    (lambda: [Session(0, 5.0, single().jobs)], "arrives at 0.0 s, its session at 5.0 s"),
    (lambda: [single()._replace(session_id=10**25)], "session_id must be between -2^62 and 2^62"),
    (lambda: [single()._replace(slo_s="9")], "slo_s must be a number, not '9'"),
    (lambda: [single(request_id=10**25)], "request_id must be between -2^62 and 2^62"),
    (lambda: [single(prompt_tokens=2**41)], "tokens; prompts and outputs may have 2"),
    (lambda: [job(output_tokens=10**19)], "output_tokens must be between"),
    (lambda: [single(priority="a")], "priority must be an int, not 'a' (str)"),
    (lambda: [single(arrival_s="0")], "arrival_s must be a number, not '0'"),
    (lambda: [single(task=None)], "task must be text, not None"),
    (lambda: [job(output_segment="x")], "output_segment must be an int"),
    (lambda: [turns((), (0,))._replace(jobs=(turns((), (0,)).jobs[0], dependent("0", 1.0)))], "waits for '0' and 1.0"),
    (lambda: [turns((), (0,))._replace(jobs=(turns((), (0,)).jobs[0], dependent(0, None)))], "waits for 0 and None"),
]


def _delayed(delay_s: float) -> Session:
    after = (Dependency(0, delay_s),)
    return Session(0, 0.0, (Job(request(0), 5), Job(request(1, arrival_s=nan), 5, after=after)))


@pytest.mark.parametrize(("made", "said"), REFUSED, ids=[said.partition(": ")[2][:50] for _, said in REFUSED])
@pytest.mark.parametrize("router", ["goodserve", "least_load"])
def test_what_could_never_end_is_refused_with_session_and_request(
    made: Callable[[], list[Session]], said: str, router: str
) -> None:
    with pytest.raises(TraceError) as caught:
        simulate_on(paper_pool(), iter(made()), router)
    assert said in str(caught.value)


def test_turns_in_any_order_are_no_fault() -> None:
    result = simulate_on(paper_pool(), iter([turns((2,), (0,), ())]), "least_load")
    assert sorted(result.requests["request_id"].tolist()) == [0, 1, 2]
    assert (result.requests["status"] == 0).all()


@given(st.lists(st.integers(-5, 30), max_size=60))
def test_seen_is_a_set(numbers: list[int]) -> None:
    seen, known = Seen(), set()
    for number in numbers:
        assert seen.add(number) is (number not in known)
        known.add(number)


def test_ids_in_a_row_take_no_room() -> None:
    door = Door()
    for number in range(7, 1000):
        door.check(Session(number, 0.0, (Job(request(number, number), 5),)))
    assert not door._requests._others
    assert not door._sessions._others


@pytest.mark.parametrize("router", ["goodserve", "least_load"])
def test_a_run_that_cannot_go_on_says_who_waits(router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No input that is let in leads here: a fault of the simulator itself, that forgets a turn.
    monkeypatch.setattr(Arrivals, "_submit_at", lambda self, job, due_s: None)
    with pytest.raises(SimulationError, match=r"nothing more can happen.*1 turns wait for others of their session"):
        simulate_on(paper_pool(), iter([turns((), (0,))]), router)


@pytest.mark.parametrize("router", ["goodserve", "least_load"])
def test_an_instance_that_forgets_a_request_is_told(router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Scrapes and refreshes go on beside it for ever: they only look, and do not count as something that happens.
    monkeypatch.setattr(Instance, "_wake", lambda self: None)
    with pytest.raises(SimulationError, match=r"nothing more can happen.*request 0 of session 0 is on instance"):
        simulate_on(paper_pool(), iter([single()]), router)


@pytest.mark.parametrize("router", ["goodserve", "least_load"])
def test_a_run_beyond_its_limit_says_what_it_waits_for(router: str) -> None:
    late = Session(1, 5000.0, (Job(request(1, 1, 5000.0), 5),))
    with pytest.raises(SimulationError, match=r"still going on at .*the next session arrives at 5000 s"):
        simulate_on(paper_pool(), iter([single(), late]), router, limit_s=1000.0)
    assert len(simulate_on(paper_pool(), iter([single(), late]), router, limit_s=6000.0).requests["status"]) == 2


@pytest.mark.parametrize("router", ["goodserve", "least_load"])
def test_what_happens_beyond_the_limit_only_is_not_waited_for(router: str) -> None:
    # Reviews and scrapes of a year would take hours on the wall.
    pool = tuple(replace(spec, api_s=1e18) for spec in paper_pool())
    said = (
        r"still going on at 600 s, and what happens next happens at 1e\+18 s .limit.simulated_s=3.1536e\+07.: request 0"
    )
    with pytest.raises(SimulationError, match=said):
        simulate_on(pool, iter([single()]), router, limit_s=31_536_000.0)


def test_a_request_that_takes_too_long_is_named() -> None:
    slow = Session(0, 0.0, (Job(request(0, max_output_tokens=10_000), 9_000),))
    with pytest.raises(SimulationError, match="request 0 of session 0 is on instance"):
        simulate_on(paper_pool(), iter([slow]), "least_load", limit_s=1.0)
