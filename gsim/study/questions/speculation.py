"""From which batch on speculative decoding is a loss: gain in decode speed against the batch, on unlike cards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import Batch, ConfigError, Engine, EventKind, Job, Request, Streams, register
from gsim.core.batch import Chunk
from gsim.engine import EngineConfig, make_engine
from gsim.engine.speculation import SpeculationConfig
from gsim.latency import Profile, load_profile
from gsim.metrics import mean_interval
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@register("study", "speculation")
@dataclass(frozen=True)
class Speculation:
    """How much faster a batch decodes with speculation, per card, batch and acceptance; where it becomes a loss."""

    profiles: tuple[str, ...] = ("h800-llama-3.1-8b", "a40-llama-3.1-8b")
    """The cards that are compared."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    """Requests that decode together; a card is asked only for what its KV and ``max_num_seqs`` hold."""
    acceptances: tuple[float, ...] = (0.6, 0.8)
    """Chances that a proposed token is accepted."""
    num_speculative_tokens: int = 3
    """Tokens proposed per iteration."""
    draft_share: float = 0.1
    """See ``engine.speculation.draft_share``."""
    prompt_tokens: int = 256
    """Of every request."""
    output_tokens: int = 200
    """Of every request; what is measured ends when the first has them."""

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name} must be 2 or more, not {getattr(self, name)}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(f"batch_sizes must be numbers from 1, not {list(self.batch_sizes)}")
        if not self.profiles or not self.acceptances:
            raise ConfigError("profiles must name a card, and acceptances a chance: there is nothing to compare")
        for acceptance in self.acceptances:
            self.config(acceptance)

    def config(self, acceptance: float) -> SpeculationConfig:
        """The speculation that is tried."""
        return SpeculationConfig(self.num_speculative_tokens, acceptance, draft_share=self.draft_share)

    def run(self, context: Context) -> Findings:
        """Simulate every batch with and without, and set the closed form beside it."""
        import pandas as pd

        points = list(itertools.product(self.profiles, self.batch_sizes))
        fitting = [(self, name, batch, context.seeds) for name, batch in points if self._fits(name, batch)]
        frame = pd.DataFrame(itertools.chain.from_iterable(context.map(_rows, fitting, "batches")))
        return Findings({"speculation": frame}, {"speculation": _figure(frame)}, _notes(frame))

    def _fits(self, name: str, batch: int) -> bool:
        profile = load_profile(name)
        tokens = self.prompt_tokens + self.output_tokens + self.num_speculative_tokens + 16
        return batch <= profile.max_num_seqs and batch * tokens <= profile.kv_tokens


def _rows(work: tuple[Speculation, str, int, Sequence[int]]) -> list[dict[str, Any]]:
    study, name, batch, seeds = work
    profile = load_profile(name)
    off = _tokens_per_s(study, profile, EngineConfig(), batch, 0)
    rows = []
    for acceptance in study.acceptances:
        config = study.config(acceptance)
        engine = EngineConfig(speculation=config)
        gains = [_tokens_per_s(study, profile, engine, batch, seed) / off for seed in seeds]
        interval = mean_interval(np.array(gains))
        rows.append(
            {
                "gpu": profile.gpu,
                "batch": batch,
                "acceptance": acceptance,
                "tokens_per_s_without": off,
                "gain": interval.mean,
                "gain_low": interval.low,
                "gain_high": interval.high,
                "closed_form": _closed_form(study, profile, config, batch),
            }
        )
    return rows


def _tokens_per_s(study: Speculation, profile: Profile, config: EngineConfig, batch: int, seed: int) -> float:
    """Tokens per second of a batch that only decodes: prompts come with their KV, and it ends before anybody does."""
    engine = make_engine(config.name, profile.latency, config.resolve(profile), Streams(seed))
    for number in range(batch):
        request = Request(number, 0.0, study.prompt_tokens, study.output_tokens, math.inf)
        engine.submit(Job(request, study.output_tokens), 0.0, study.prompt_tokens - 1)
    # The iteration of the first tokens is no verification.
    began_s = _until(engine, EventKind.FIRST_TOKEN)
    ended_s = _until(engine, EventKind.FINISHED)
    last = np.array(engine.progress(ended_s)[1], dtype=np.int64)
    finished = batch - len(last)
    tokens = int(last.sum()) + finished * study.output_tokens - batch
    return tokens / (ended_s - began_s)


def _until(engine: Engine, kind: EventKind) -> float:
    """Run to the first event of a kind; its time."""
    while True:
        for event in engine.advance(engine.next_event_s()):
            if event.kind is kind:
                return event.time_s


def _closed_form(study: Speculation, profile: Profile, config: SpeculationConfig, batch: int) -> float:
    """Expected tokens of an iteration, times what a decode takes over what a verification and its drafts take."""
    k = config.num_speculative_tokens
    context = study.prompt_tokens + study.output_tokens // 2
    latency = profile.latency
    plain_s = latency.iteration_s(Batch((), batch, batch * context, context))
    verify_s = latency.iteration_s(Batch((Chunk(k, context + 1),) * batch, batch, batch * context, context))
    spent_s = verify_s + config.draft_share * (verify_s + (k - 1) * plain_s) + k * config.draft_s
    return config.tokens_per_iteration() * plain_s / spent_s


def turning_point(batches: Sequence[int], gains: Sequence[float]) -> float:
    """The batch at which the gain passes below 1, by logarithms; ``inf``: nowhere, 0: all."""
    if gains[0] < 1.0:
        return 0.0
    for i in range(1, len(gains)):
        if gains[i] < 1.0:
            low, high = math.log(batches[i - 1]), math.log(batches[i])
            return math.exp(low + (high - low) * (gains[i - 1] - 1.0) / (gains[i - 1] - gains[i]))
    return math.inf


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = []
    for (gpu, acceptance), rows in frame.groupby(["gpu", "acceptance"], sort=False):
        batches, gains = rows["batch"].tolist(), rows["gain"].tolist()
        at = turning_point(batches, gains)
        if at == math.inf:
            end = f"still {gains[-1]:.2f} times at batch {batches[-1]}, the largest that fits"
        elif at == 0.0:
            end = "a loss at every batch"
        else:
            end = f"a loss from batch {at:.0f} on ({gains[-1]:.2f} times at {batches[-1]})"
        notes.append(f"{gpu}, acceptance {acceptance:g}: {gains[0]:.2f} times as fast at batch {batches[0]}, {end}")
    off = (frame["gain"] / frame["closed_form"] - 1.0).abs().max()
    notes.append(f"the closed form is met within {off:.1%} at every point")
    return notes


def _figure(frame: pd.DataFrame) -> Figure:
    from gsim.study.figure import COLOURS, DASHES, MARKERS, house_style, new_figure, plain_log_x

    cards, chances = list(dict.fromkeys(frame["gpu"])), list(dict.fromkeys(frame["acceptance"]))
    with house_style():
        figure, (axis,) = new_figure(1, width=4.6)
        for (gpu, acceptance), rows in frame.groupby(["gpu", "acceptance"], sort=False):
            i, j = cards.index(gpu), chances.index(acceptance)
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
            label = f"{gpu}, {acceptance:g} accepted"
            dash = DASHES[j % len(DASHES)]
            axis.plot(rows["batch"], rows["gain"], dash, label=label, markersize=3.5, linewidth=1.3, **style)
            axis.fill_between(rows["batch"], rows["gain_low"], rows["gain_high"], alpha=0.15, color=style["color"])
        axis.axhline(1.0, color="black", linewidth=0.8)
        plain_log_x(axis, sorted(set(frame["batch"])))
        axis.tick_params(axis="x", labelsize=7)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("Requests that decode together")
        axis.set_ylabel("Decode speed, with over without")
        axis.legend(frameon=False)
    return figure
