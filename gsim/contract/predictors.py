"""What every predictor keeps to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsim.contract.cases import require, run, same_run
from gsim.core import BatchPredictor, Job, Oracle, Predictor, QuantilePredictor, Request
from gsim.core.answers import all_tokens_of, quantiles_of, title, tokens_of

Make = Callable[[], Predictor]


def jobs(n: int, seed: int = 0) -> list[Job]:
    """Three task classes of very unlike lengths, in sessions of four turns, with and without text."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        task = ("short", "long", "wild")[(k // 4) % 3]
        length = {"short": 20, "long": 800, "wild": int(rng.pareto(1.2) * 100) + 1}[task]
        tokens = min(max(1, int(length * rng.uniform(0.8, 1.25))), 60_000)
        text = None if task == "wild" else f"please write {task} things about {k}"
        prompt = int(rng.integers(1, 5000))
        made.append(Job(Request(k, 0.0, prompt, 1 << 16, 10.0, task, session_id=k // 4, turn=k % 4, text=text), tokens))
    return made


def _served(predictor: Predictor, some: list[Job]) -> list[float]:
    """What is predicted of requests that arrive and finish one after another."""
    found = []
    for job in some:
        found.append(_asked(predictor, job))
        predictor.observe(job.request, job.output_tokens)
    return found


def _asked(predictor: Predictor, job: Job, generated: int = 0) -> float:
    if isinstance(predictor, Oracle):
        predictor.reveal(job)
    answer: object = predictor.predict(job.request, generated)
    return tokens_of(answer, title("predictor", predictor), job.request.request_id)


def predicts(make: Make) -> None:
    """It predicts a finite number of tokens beyond those that there are, knowing nothing or 200 requests."""
    for warm in (0, 200):
        predictor = make()
        _served(predictor, jobs(warm))
        for job in jobs(warm + 12, seed=1)[warm:]:
            first = _asked(predictor, job)
            require(first >= 1.0, f"it predicted {first} tokens for request {job.request.request_id}")
            for generated in (1, 17, 5_000, 1_000_000):
                total = _asked(predictor, job, generated)
                require(total > generated, f"it predicted {total} tokens in all where there were {generated}")


def repeats(make: Make) -> None:
    """The same seed and the same requests give the same predictions."""
    require(_served(make(), jobs(160)) == _served(make(), jobs(160)), "two predictors of the same seed differ")


def does_not_learn_from_questions(make: Make) -> None:
    """Asking again, also about a request that has gone on, changes no prediction."""
    predictor = make()
    _served(predictor, jobs(120))
    job = jobs(121)[-1]
    first = _asked(predictor, job)
    _asked(predictor, job, 30)
    again = _asked(predictor, job)
    require(again == first, f"it predicted {first} first and {again} again")


def agrees_with_itself(make: Make) -> None:
    """If it predicts many at once, then as one by one."""
    predictor = make()
    if not isinstance(predictor, BatchPredictor):
        return
    some = jobs(160)
    _served(predictor, some[:120])
    rest = some[120:]
    first = np.array([_asked(predictor, job) for job in rest])
    generated = np.minimum([0, 1, 10, 100, 1000] * 8, [job.output_tokens - 1 for job in rest])
    answer: object = predictor.repredict([job.request for job in rest], generated, first)
    ids = np.array([job.request.request_id for job in rest])
    together = all_tokens_of(answer, ids, predictor)
    alone = [_asked(predictor, job, tokens) for job, tokens in zip(rest, generated.tolist(), strict=True)]
    require(np.allclose(together, alone, rtol=1e-12), "many at once are predicted otherwise than one by one")


def gives_a_distribution(make: Make) -> None:
    """If it gives a distribution, then lengths that never fall and lie beyond what there is, the same when asked
    again."""
    predictor = make()
    if not isinstance(predictor, QuantilePredictor):
        return
    name = title("predictor", predictor)
    for warm in (0, 200):
        _served(predictor, jobs(warm))
        for job in jobs(warm + 12, seed=1)[warm:]:
            first = _asked(predictor, job)
            for generated in (0, 17, 5_000, 1_000_000):
                answer: object = predictor.predict_quantiles(job.request, generated)
                lengths = quantiles_of(answer, name, job.request.request_id)
                require(lengths[0] > generated, f"it gave a length of {lengths[0]} where there were {generated} tokens")
                again = quantiles_of(predictor.predict_quantiles(job.request, generated), name, job.request.request_id)
                require(lengths == again, f"it gave {lengths} first and {again} again")
            require(_asked(predictor, job) == first, "asking for a distribution changed its prediction")


def survives_late_questions(make: Make) -> None:
    """It can be asked about a request that is over (a late re-prediction)."""
    predictor = make()
    some = jobs(80)
    _served(predictor, some)
    require(_asked(predictor, some[3], 5) > 5, "it predicted no tokens beyond those that there were")


def runs(make: Make) -> None:
    """A whole run with it ends, twice in the same way."""
    from gsim.core import build

    once, again = (run(predictor=make(), router=build("router", "edf")) for _ in range(2))
    require(same_run(once, again), "two runs of the same seed differ")


CHECKS = (
    predicts,
    repeats,
    does_not_learn_from_questions,
    agrees_with_itself,
    gives_a_distribution,
    survives_late_questions,
    runs,
)
