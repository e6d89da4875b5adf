"""``import gsim``: the command line's runs from names, nested values and objects; and nothing else happens."""

from __future__ import annotations

import os
import pickle
import runpy
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky.backend.reduction import dumps

import gsim
from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import main
from gsim.core import ConfigError, GsimError, Job, Request, Session, SimulationError, register, registry
from gsim.latency import load_profile
from gsim.library.extensions import Registered
from gsim.library.given import Given
from gsim.library.work import _elsewhere
from gsim.run.closure import sources
from gsim.run.key import RUN
from gsim.run.settings import Settings

FEW = {"requests": 20, "rate_per_s": 50}


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registers_nothing():
    yield
    registry.forget("__main__")
    registry.forget(__name__)


class FewestInFlight:
    """A router that nobody registered."""

    def __init__(self, steps=()):
        self.asked = list(steps)

    def route(self, request, view):
        self.asked.append(request.request_id)
        return int(view.in_flight.argmin())


FRAME = pd.DataFrame({
    "arrival_s": [100.0, 102.5, 101.0],
    "prompt_tokens": [10, 2000, 30],
    "output_tokens": [5, 6, 40],
    "slo_s": [1.0, 0.001, 9.0],
    "session": ["a", np.nan, "a"],
    "task": ["chat", "chat", "code"],
})  # fmt: skip


SAID = [
    ({}, []),
    ({"router": "least_load", "trace": {"rate_per_s": 60}}, ["router=least_load", "trace.rate_per_s=60"]),
    ({"trace.rate_per_s": np.int64(60), "warmup_s": 1}, ["trace.rate_per_s=60", "warmup_s=1"]),
    ({"router": {"name": "power_of_two"}, "rectifier": None}, ["router=power_of_two", "rectifier=none"]),
    (
        {"pool": {"instances": [{"profile": "a40-llama-3.1-8b", "count": 2}]}},
        ["pool.instances=[{profile: a40-llama-3.1-8b, count: 2}]"],
    ),
    ({"pool": "two_tier", "slo": {"name": "scaled", "scale": 3}}, ["pool=two_tier", "slo=scaled", "slo.scale=3"]),
    ({"trace": "agents", "until_s": 50, "trace.agents": 3}, ["trace=agents", "until_s=50", "trace.agents=3"]),
]


def test_what_is_said_in_python_is_what_is_said_on_the_command_line():
    register_schema()
    with hydra_session() as hydra:
        for said, words in SAID:
            composed = Settings.read(plain(compose(hydra, words)[0]))
            assert Given().but(said).settings().plain() == composed.plain()
            assert Given().but(said).settings().key(3) == composed.key(3)


def test_a_run_has_its_tables_and_stories_and_leaves_nothing(capfd, tmp_path):
    before = os.getcwd()
    run = gsim.simulate(trace=FEW, router="least_load", seed=4)
    assert len(run.requests) == run.summary["requests"] == 20
    assert run.requests["good"].mean() == pytest.approx(run.summary["attainment"])
    assert run.instances["requests"].sum() == 20
    assert "request 3" in run.explain(3)
    with pytest.raises(ConfigError, match="the requests are 0 to 19"):
        run.explain(20)
    assert len(run.timeline().axes) == 3
    assert "goodput_rps" in str(run)
    assert "least_load, seed 4: 20 requests" in repr(run)
    assert capfd.readouterr() == ("", "")
    assert os.getcwd() == before
    assert list(tmp_path.iterdir()) == []
    run.timeline("story.json")
    assert "traceEvents" in (tmp_path / "story.json").read_text()


def test_misses_have_a_cause_and_are_those_that_were_not_good():
    run = gsim.simulate(trace={"requests": 200, "rate_per_s": 120}, router="random", rectifier="none")
    missed = run.requests.query("counted and not good")
    assert len(missed) > 20
    assert run.misses["request_id"].tolist() == missed["request_id"].tolist()
    assert (run.misses["late_s"] > 0).all()
    assert set(run.misses["cause"]) <= {"longer than predicted", "queue and prefill", "slow card"}


def test_an_object_is_copied_for_every_run():
    router = FewestInFlight()
    first, second = (gsim.simulate(trace=FEW, router=router).requests for _ in range(2))
    assert router.asked == []
    pd.testing.assert_frame_equal(first, second)


def test_what_cannot_be_copied_is_told():
    class Locked(FewestInFlight):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(ConfigError, match="router Locked cannot be copied, and every run gets a copy of its own"):
        gsim.simulate(trace=FEW, router=Locked())


def test_a_registered_object_is_its_name_and_fields(registers_nothing):
    @register("router", "to_one")
    @dataclass
    class ToOne:
        place: int = 0

        def route(self, request, view):
            return self.place

    run = gsim.simulate(trace=FEW, router=ToOne(2), rectifier="none")
    assert run.config["router"] == {"name": "to_one", "place": 2}
    assert set(run.requests["instance"]) == {"A800-80G"}


def test_a_table_of_requests_is_a_trace():
    run = gsim.simulate(trace=FRAME, rectifier="none", router="fastest")
    rows = run.requests
    assert rows["arrival_s"].tolist() == pytest.approx([0.0, 1.0, 2.5])
    assert rows["prompt_tokens"].tolist() == [10, 30, 2000]
    assert rows["slo_s"].tolist() == [1.0, 9.0, 0.001]
    assert rows["good"].tolist() == [True, True, False]
    assert rows["session_id"].tolist() == [0, 0, 1]
    assert rows["task"].tolist() == ["chat", "code", "chat"]
    again = gsim.simulate(trace=FRAME.to_dict("records"), rectifier="none", router="fastest", slo={"seconds": 3})
    assert set(again.requests["slo_s"]) == {3.0}


def test_sessions_that_are_numbers_may_be_missing():
    rows = gsim.simulate(trace=FRAME.assign(session=[7, None, 7]), rectifier="none").requests
    assert rows["session_id"].tolist() == [0, 0, 1]


def test_a_whole_session_may_have_an_objective_of_its_own():
    chain = gsim.simulate(trace=FRAME, slo={"seconds": 3}).sessions
    own = gsim.simulate(trace=FRAME, slo={"seconds": 3, "session_s": 4.5}).sessions
    assert chain["slo_s"].tolist() == [6.0]
    assert own["slo_s"].tolist() == [4.5]


def test_jobs_and_sessions_are_a_trace():
    jobs = [Job(Request(i, 0.5 * i, 100, 50, 2.0), 20) for i in range(4)]
    run = gsim.simulate(trace=jobs)
    assert run.requests["slo_s"].tolist() == [2.0] * 4
    assert run.requests["output_tokens"].tolist() == [20] * 4


def test_profiles_are_a_pool():
    run = gsim.simulate(trace=FEW, pool=[load_profile("a40-llama-3.1-8b"), "a40-llama-3.1-8b"])
    assert run.instances["instance"].tolist() == ["A40-0", "A40-1"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"routr": "random"}, "unknown name 'routr' (did you mean router?)"),
        ({"router": "nobody"}, "unknown router 'nobody'; there are: always_first"),
        ({"router": {"margin": 1}}, "router has no field 'margin'; its fields are: margin_s"),
        ({"trace": {"rate_per_s": "fast"}}, "trace.rate_per_s must be a number, not 'fast'"),
        ({"trace": {"requests": 1.5}}, "trace.requests must be a whole number, not 1.5"),
        ({"trace": "mooncake"}, "trace.path is mandatory"),
        ({"router": FewestInFlight}, "router is the class FewestInFlight; give an object"),
        ({"router": 3}, "an object with a method 'route'; not 3"),
        ({"router": FewestInFlight(), "router.margin_s": 1}, "router.margin_s: router is an object"),
        ({"trace": FRAME.drop(columns="output_tokens")}, "the DataFrame has no column 'output_tokens'"),
        ({"trace": FRAME.assign(prompt_tokens=[1, -3, 4])}, "the DataFrame, row 2: prompt_tokens must be in [1, "),
        ({"trace": FRAME.assign(arrival_s=[0.0, "soon", 2.0])}, "the DataFrame, row 2: arrival_s must be a number"),
        ({"trace": FRAME.assign(arrival_s=[0.0, None, "x"])}, "the DataFrame, row 2: arrival_s must be a number"),
        ({"trace": FRAME.set_axis([*FRAME.columns[:-1], "arrival_s"], axis=1)}, "has two columns 'arrival_s'"),
        ({"trace": FRAME.assign(session="a", session_slo_s=[5, 5, 6])}, "row 3: session_slo_s is 6, but its session"),
        ({"trace": []}, "trace: the list has no request"),
        ({"trace": [1, "x"]}, "a list has rows (mappings), Jobs or Sessions, not int, str"),
        ({"pool": [7]}, "a list has profiles or names of profiles, not 7"),
        ({"faults": {"mtbf_s": 1}}, "faults=none has no field 'mtbf_s'"),
        ({"trace": [Session(3, 0.0, None)]}, "session 3: jobs must be a tuple of Jobs, not None"),
        ({"trace": [Session(3, 0.0, (None,))]}, "session 3: jobs must be a tuple of Jobs, not (None,)"),
        ({"trace": [Session(3, 0.0, ((1, 2),))]}, "session 3: jobs must be a tuple of Jobs"),
    ],
)
def test_what_cannot_be_simulated_is_told_by_name(said, told):
    with pytest.raises(GsimError) as error:
        gsim.simulate(said)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"seeds": 2.5}, "seeds must be how many (a whole number), or a list of them; not 2.5"),
        ({"seeds": "12"}, "seeds must be how many"),
        ({"workers": "2"}, "workers must be a number of processes (-1: one per processor), not '2'"),
        ({"workers": 1.5}, "workers must be a number of processes"),
        ({"figure": "x"}, "figure must be a mapping, not str"),
        ({"grid": FRAME}, "grid must be a mapping, not DataFrame"),
        ({"name": "../../up"}, "name must be a text that can be a file's name, not '../../up'"),
        ({"name": 5}, "name must be a text"),
        ({"out": ""}, "out is empty"),
    ],
)
def test_a_sweep_is_asked_for_in_words_that_fit(said, told):
    with pytest.raises(ConfigError) as error:
        gsim.sweep(**{"grid": {"router": ["random", "fastest"]}, "seeds": 1, "trace": FEW, **said})
    assert told in str(error.value)
    assert len(gsim.sweep({"router": ["random"]}, seeds=np.int64(2), trace=FEW).runs) == 2


class Dies:
    """It takes the process with it."""

    def route(self, request, view):
        os._exit(3)


def test_a_worker_that_is_killed_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SimulationError, match="a worker process ended in the middle of its work"):
        gsim.sweep({"router": [Dies(), "random"]}, seeds=2, workers=2, trace=FEW)


def test_threads_do_not_disturb_one_another():
    seeds = [0, 1, 2, 3]
    alone = [gsim.simulate(trace=FEW, seed=seed).requests for seed in seeds]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: gsim.simulate(trace=FEW, seed=seed).requests, seeds))
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(one, other)


GRID = {"router": ["random", "least_load"], "trace.rate_per_s": [40, 70]}


def test_a_sweep_compares_in_memory_what_it_would_keep_in_a_folder(tmp_path, capfd):
    memory = gsim.sweep(GRID, seeds=2, trace={"requests": 20}, name="there")
    assert memory.table("attainment").shape == (2, 2)
    assert len(memory.paired) == 2 * 4
    assert {"difference_low", "difference_high", "p_value"} <= set(memory.paired.columns)
    assert len(memory.requests) == 4 * 2 * 20
    assert memory.findings
    assert len(memory.figure().axes) >= 2
    assert list(tmp_path.iterdir()) == []
    kept = gsim.sweep(GRID, seeds=2, trace={"requests": 20}, out=tmp_path / "there", name="there")
    assert capfd.readouterr() == ("", "")
    pd.testing.assert_frame_equal(memory.runs, kept.runs, rtol=1e-8, check_dtype=False)
    pd.testing.assert_frame_equal(memory.paired, kept.paired, rtol=1e-6, atol=1e-8, check_dtype=False)
    assert memory.findings == kept.findings
    assert str(memory) == str(kept)
    assert len(gsim.load(tmp_path / "there").requests) == len(memory.requests)
    words = ["router=random,least_load", "trace.rate_per_s=40,70", "trace.requests=20", "seeds=2", "--dry-run"]
    assert main([*words, f"out={tmp_path}/there"]) == 0
    assert "8 runs: 8 stored, 0 to compute" in capfd.readouterr().out


def test_labels_objects_and_parameters_are_policies():
    entries = [
        "random",
        {"name": "goodserve", "margin_s": 0.2},
        {"label": "mine", "router": FewestInFlight(), "rectifier": "none"},
        FewestInFlight(),
        FewestInFlight([7]),
    ]
    made = gsim.sweep({"router": entries}, seeds=1, trace=FEW)
    assert [cell.label for cell in made.cells] == [
        "random + risk_monitor",
        "goodserve + risk_monitor + margin_s=0.2",
        "mine",
        "FewestInFlight + risk_monitor",
        "FewestInFlight 2 + risk_monitor",
    ]


def test_tables_are_points_of_a_grid():
    made = gsim.sweep({"trace": [FRAME, FRAME.head(2)], "router": ["random", "fastest"]}, seeds=1)
    assert made.runs["trace"].tolist() == ["DataFrame", "DataFrame", "DataFrame 2", "DataFrame 2"]
    assert made.runs["requests"].tolist() == [3, 3, 2, 2]


def test_what_has_no_name_is_not_kept(tmp_path, registers_nothing):
    with pytest.raises(ConfigError, match='router is an object that no name stands for.*@register\\("router", NAME\\)'):
        gsim.sweep({"router": [FewestInFlight(), "random"]}, out=tmp_path / "out", trace=FEW)
    made = dataclass(type("Typed", (), {"route": FewestInFlight.route, "__module__": "in_a_notebook"}))
    sys.modules["in_a_notebook"] = types.ModuleType("in_a_notebook")
    try:
        register("router", "typed_in")(made)
        with pytest.raises(ConfigError, match="'typed_in' was defined in a notebook"):
            gsim.sweep({"router": ["typed_in", "random"]}, out=tmp_path / "out", trace=FEW)
    finally:
        registry.forget("in_a_notebook")
        del sys.modules["in_a_notebook"]
    assert not (tmp_path / "out").exists()


SCRIPT = """
from dataclasses import dataclass
import gsim
from gsim.core import register

@register("router", "shortest_queue")
@dataclass
class ShortestQueue:
    def route(self, request, view):
        return int(view.in_flight.argmin())

results = gsim.sweep({"router": ["shortest_queue", "goodserve"]}, seeds=3, trace={"requests": 20})
p_value = results.paired.set_index("metric").loc["goodput_rps", "p_value"]
"""


def test_a_script_of_ten_lines_has_a_p_value(tmp_path, registers_nothing):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert 0 < runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")["p_value"] <= 1


def test_workers_know_what_a_script_has_registered(tmp_path, registers_nothing):
    (tmp_path / "script.py").write_text(SCRIPT.partition("results =")[0])
    runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
    registered = Registered.here()
    job = dumps((_elsewhere, _names, None, str(tmp_path), (), registered, 0))
    registry.forget("__main__")
    function, *arguments = pickle.loads(job)
    assert "shortest_queue" in function(*arguments)


def _names(_item):
    return list(registry.registered("router"))


def test_extensions_are_known_and_broken_ones_are_told(tmp_path):
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "broken.py").write_text("import nothing_of_that_name")
    with pytest.warns(UserWarning, match="broken.py: ModuleNotFoundError"):
        gsim.simulate(trace=FEW)


def test_a_run_does_not_depend_on_the_library():
    names = {module.name for module in sources().closure([RUN, "gsim.routing.goodserve"])}
    assert "gsim.run.settings" in names
    assert not any(name == "gsim" or name.startswith(("gsim.library", "gsim.report")) for name in names)


def test_what_gsim_passes_on_is_listed():
    assert {"simulate", "sweep", "load", "Run", "Results"} <= set(dir(gsim))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gsim.nothing
