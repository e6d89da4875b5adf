"""Sessions from a shelf are the sessions that would have been drawn anew."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from gsim.cli.sweep import _jobs
from gsim.core import Job, Population, Request, Session
from gsim.run.cell import run
from gsim.run.options import RUN_GROUPS, options
from gsim.run.settings import Settings
from gsim.run.shelf import Kept, Shelf


def session(number: int, jobs: int = 1) -> Session:
    asked = [
        Request(request_id=10 * number + i, arrival_s=float(number), prompt_tokens=5, max_output_tokens=5, slo_s=1.0)
        for i in range(jobs)
    ]
    return Session(number, float(number), tuple(Job(request, 3) for request in asked))


class Drawn:
    """A configuration whose sessions can be counted as they are drawn."""

    def __init__(self, name: str = "some", sessions: int | None = 20, agents: int = 0) -> None:
        self.name = name
        self.sessions = sessions
        self.agents = agents
        self.drawn = 0

    def workload(self) -> str:
        return self.name

    def trace(self) -> Any:
        return object()

    def load(self, seed: int, trace: Any = None) -> Iterator[Session] | Population:
        if not self.agents:
            return self._draw(1000 * seed)
        first = tuple(session(i) for i in range(self.agents))
        return Population(first, self._draw(1000 * seed + self.agents), 2.0)

    def _draw(self, start: int) -> Iterator[Session]:
        for number in islice(count(start), self.sessions):
            self.drawn += 1
            yield session(number)


def open_load(shelf: Shelf, settings: Drawn, seed: int = 0) -> Iterator[Session]:
    load = shelf.take(settings, seed)[1]
    assert not isinstance(load, Population)
    return load


def test_a_workload_is_drawn_once_and_replayed() -> None:
    shelf, settings = Shelf(), Drawn()
    first = list(open_load(shelf, settings))
    second = list(open_load(shelf, settings))
    assert first == list(Drawn().load(0))
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert settings.drawn == 20


@pytest.mark.parametrize("stops", [[3, 7, 20], [7, 3, 5], [0, 20, 1]])
def test_a_run_that_stops_early_leaves_the_rest_to_the_next(stops: list[int]) -> None:
    shelf, settings = Shelf(), Drawn(sessions=None)
    expected = list(islice(Drawn(sessions=None).load(0), 20))  # type: ignore[call-overload]
    for stop in stops:
        assert list(islice(open_load(shelf, settings), stop)) == expected[:stop]
    assert settings.drawn == max(stops)


def test_another_seed_or_workload_is_drawn_anew() -> None:
    shelf, one, other = Shelf(), Drawn("one"), Drawn("other")
    assert list(open_load(shelf, one)) == list(open_load(shelf, other))
    assert next(open_load(shelf, one, seed=4)) == session(4000)
    assert (one.drawn, other.drawn) == (21, 20)


def test_a_long_workload_is_not_held() -> None:
    shelf, settings = Shelf(most_requests=10), Drawn()
    for _ in range(3):
        assert list(open_load(shelf, settings)) == list(Drawn().load(0))
    assert settings.drawn == 60
    kept = Kept(iter([session(i, jobs=4) for i in range(5)]), most_requests=10)
    assert len(list(kept)) == 5
    assert not kept.whole


def test_a_population_has_the_same_agents_and_sessions() -> None:
    shelf, settings = Shelf(), Drawn(sessions=None, agents=3)
    for stop in (5, 9, 2):
        load = shelf.take(settings, 0)[1]
        assert isinstance(load, Population)
        assert [s.session_id for s in load.first] == [0, 1, 2]
        assert [s.session_id for s in islice(load.later, stop)] == list(range(3, 3 + stop))
    assert settings.drawn == 9


def test_the_trace_of_the_sessions_comes_with_them() -> None:
    shelf, settings = Shelf(), Drawn()
    assert shelf.take(settings, 0)[0] is shelf.take(settings, 0)[0]


def settings_of(router: str, **trace: Any) -> Settings:
    chosen = RUN_GROUPS | {"router": router, "trace": trace["name"]}
    values = {group: {"name": name, **options(group)[name].values} for group, name in chosen.items()}
    window = {"warmup_s": 2.0, "until_s": 8.0} if trace["name"] == "agents" else {}
    return Settings.read(values | {"trace": trace} | window)


@pytest.mark.parametrize(
    "trace", [{"name": "mix", "requests": 60}, {"name": "paper", "requests": 60}, {"name": "agents", "agents": 8}]
)
def test_runs_from_a_shelf_are_the_runs_that_they_are_alone(trace: dict[str, Any]) -> None:
    shelf = Shelf()
    for router in ("random", "round_robin", "least_load"):
        settings = settings_of(router, **trace)
        shared = run(settings, 3, shelf.take(settings, 3)[1])
        alone = run(settings, 3)
        for name, values in alone.requests.items():
            np.testing.assert_array_equal(shared.requests[name], values, err_msg=f"{router}: {name}")


def test_what_arrives_has_a_name_of_its_own() -> None:
    one = settings_of("random", name="paper", requests=60)
    assert one.workload() == settings_of("round_robin", name="paper", requests=60).workload()
    assert one.workload() != settings_of("random", name="paper", requests=61).workload()
    assert one.workload() != one.replace(slo={"name": "fixed", "seconds": 7.0}).workload()
    assert one.workload() != one.replace(dynamics={"name": "load_step"}).workload()


class Asked:
    """A cell as far as jobs are made of it."""

    def __init__(self, name: str, load: str, seeds: int) -> None:
        self.settings = Drawn(load)
        self.seeds = tuple(range(seeds))
        self.keys = [f"{name}{seed}" for seed in self.seeds]


def test_jobs_hold_every_missing_run_once_and_those_of_equal_sessions_together() -> None:
    cells: list[Any] = [Asked(f"{router}{load}", load, 5) for load in ("low", "high") for router in "abcd"]
    missing = [(cell, [key for key in cell.keys if key != "alow3"]) for cell in cells]
    jobs = _jobs(missing, workers=1)
    runs = [run for job in jobs for run in job]
    assert sorted(runs) == [(i, seed) for i in range(8) for seed in range(5) if (i, seed) != (0, 3)]
    assert len(jobs) == 8
    sessions = [(cells[place].settings.name, seed) for place, seed in runs]
    drawn = [one for one, before in zip(sessions, [None, *sessions], strict=False) if one != before]
    assert len(drawn) == len(set(sessions)) == 10
