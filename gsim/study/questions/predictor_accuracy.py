"""How well predictors know output lengths, on prompts of real agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gsim.core import ConfigError, Streams, build, register
from gsim.core.protocols import Randomised
from gsim.prediction.accuracy import Accuracy, judge
from gsim.prediction.corpus import read_corpus, split_by_session
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TrainSet:
    """What predictors learn from."""

    path: str = "???"
    """JSON lines (gzip where the name ends in .gz): task, session, turn, context_tokens, prompt, output_tokens."""


@dataclass(frozen=True)
class TestSet:
    """What they are judged on."""

    path: str = ""
    """The same format; empty: a share of the training file's sessions, drawn anew for every seed."""
    share: float = 0.25
    """That share."""


class _Task(NamedTuple):
    predictor: str
    train: str
    test: str
    share: float
    seed: int


@register("study", "predictor_accuracy")
@dataclass(frozen=True)
class PredictorAccuracy:
    """How well each predictor knows output lengths before a request starts, per task class and at what cost."""

    train: TrainSet = field(default_factory=TrainSet)
    """``train.path``: what they learn from."""
    test: TestSet = field(default_factory=TestSet)
    """``test.path``: what they are judged on; without it, ``test.share`` of the sessions is held out."""
    predictors: tuple[str, ...] = (
        "moe",
        "pooled_gbdt",
        "history",
        "class_median",
        "class_mean",
        "constant",
        "uniform_random",
    )
    """Which predictors, with their default options."""

    def __post_init__(self) -> None:
        if not self.predictors:
            raise ConfigError("predictors is empty; name at least one")
        if not 0 < self.test.share < 1:
            raise ConfigError(f"test.share must be between 0 and 1, not {self.test.share}")

    def run(self, context: Context) -> Findings:
        """Train and judge every predictor, once per seed."""
        import pandas as pd

        # Bad input is refused before anything is trained.
        samples = len(read_corpus(self.train.path))
        tested = len(read_corpus(self.test.path)) if self.test.path else None
        for name in self.predictors:
            build("predictor", name)
        tasks = [
            _Task(name, self.train.path, self.test.path, self.test.share, seed)
            for name in self.predictors
            for seed in context.seeds
        ]
        lines = [line for part in context.map(_judged, tasks, "predictors") for line in part]
        frame = pd.DataFrame(lines, columns=Accuracy._fields)
        keys = ["predictor", "task"]
        grouped = frame.drop(columns="requests").groupby(keys, sort=False)
        results, spread = grouped.mean().reset_index(), grouped.std(ddof=1).reset_index()
        notes = _notes(results, spread, len(context.seeds))
        sizes = f"{samples} recorded requests" + (
            f", judged on {tested} others" if tested else f"; {self.test.share:.0%} of the sessions held out"
        )
        return Findings({"results": results, "spread": spread}, {"accuracy": _figure(results)}, [sizes, *notes])


def _judged(task: _Task) -> Sequence[Accuracy]:
    samples = read_corpus(task.train)
    if task.test:
        train, test = samples, read_corpus(task.test)
        # Sessions of two files are different sessions, though both are numbered from 0.
        offset = 1 + max(sample.request.session_id for sample in train)
        test = [s._replace(request=s.request._replace(session_id=s.request.session_id + offset)) for s in test]
        test = [s._replace(request=s.request._replace(request_id=k + len(train))) for k, s in enumerate(test)]
    else:
        train, test = split_by_session(samples, task.share, task.seed)
    predictor = build("predictor", task.predictor)
    if isinstance(predictor, Randomised):
        predictor.seed(Streams(task.seed).stream("predictor"))
    return judge({task.predictor: predictor}, train, test)


def _notes(results: pd.DataFrame, spread: pd.DataFrame, seeds: int) -> list[str]:
    overall, deviation = _overall(results), _overall(spread)
    notes = [
        f"{name}: MAE/mean {row['mae_over_mean']:.3f} (sd {deviation[name]['mae_over_mean']:.3f} over {seeds} seeds), "
        f"{row['within_2x']:.1%} within a factor of 2, {row['us_per_call']:.0f} us a call"
        for name, row in sorted(overall.items(), key=lambda item: float(item[1]["mae_over_mean"]))
    ]
    if {"moe", "pooled_gbdt"} <= set(overall):
        gain = overall["pooled_gbdt"]["mae_over_mean"] - overall["moe"]["mae_over_mean"]
        notes.append(f"experts over one pooled model: MAE/mean lower by {gain:.3f}")
    return notes


def _overall(frame: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {row["predictor"]: row for row in frame.to_dict("records") if row["task"] == "all"}


def _figure(results: pd.DataFrame) -> Figure:
    from gsim.study.figure import COLOURS, house_style, new_figure

    tasks = list(dict.fromkeys(results["task"]))
    predictors = list(dict.fromkeys(results["predictor"]))
    shown = [name for name in predictors if name not in ("constant", "uniform_random")] or predictors
    with house_style():
        figure, axes = new_figure(2)
        for axis, (column, label) in zip(
            axes, (("mae_over_mean", "MAE / mean length"), ("within_2x", "Share within a factor of 2")), strict=True
        ):
            for i, name in enumerate(shown):
                rows = results[results["predictor"] == name].set_index("task").loc[tasks]
                places = [k + (i - (len(shown) - 1) / 2) * 0.8 / len(shown) for k in range(len(tasks))]
                axis.bar(places, rows[column], 0.8 / len(shown), label=name, color=COLOURS[i % len(COLOURS)])
            axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
            axis.set_ylabel(label)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure
