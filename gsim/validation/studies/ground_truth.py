"""Is the simulator right about a real GPU? A run that a real vLLM served, replayed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from gsim.core import register
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ProfileOptions:
    """Which profile."""

    path: str = "???"
    """Name, file, or folder of operator tables."""


@register("study", "ground_truth")
@dataclass(frozen=True)
class GroundTruthStudy:
    """Replay the requests that a real engine served, with its profile and its limits, and compare the timestamps.

    Operator tables know nothing of the engine around them: what an iteration takes beside their sum is fitted to the
    beginning of the run, and the rest judges. Which prompts begin alike is read from the run's KV blocks in use, where
    it says them and the token ids are not at hand.
    """

    ground_truth: str = "???"
    """Folder with requests.csv and meta.json of the real run, or a JSON result of vllm bench serve."""
    workload: str | None = None
    """JSON lines with the prompts' token ids (which of them begin alike), where at hand."""
    profile: ProfileOptions = field(default_factory=ProfileOptions)
    """``profile.path``: name, file, or folder of operator tables."""

    def run(self, context: Context) -> Findings:
        """A fit and a replay: nothing in them is random."""
        import pandas as pd

        from gsim.latency import OperatorModel, load_profile
        from gsim.validation.cases.shared_prompts import continuations, with_continuations
        from gsim.validation.ground_truth import compare, figure, profile_of_run, read_ground_truth, replay_truth
        from gsim.validation.ground_truth_fit import fit_correction
        from gsim.validation.ground_truth_terms import terms

        truth = read_ground_truth(self.ground_truth, self.workload)
        profile = profile_of_run(truth, load_profile(self.profile.path))
        fit = fit_correction(truth, profile)
        corrected = fit.correction.applied(profile)
        pairs = [] if truth.contents else continuations(truth, corrected)
        if pairs:
            truth = replace(truth, contents=with_continuations(truth, pairs))
        simulated = replay_truth(truth, corrected)
        tables = {"ground_truth": compare(truth, simulated)}
        notes = [
            f"{len(truth.requests)} requests, {len(simulated.iterations)} iterations, "
            f"{int(simulated.preemptions.sum())} preemptions; times in milliseconds",
            *(
                [f"meta.json does not say, so vLLM's defaults apply: {'; '.join(truth.assumed)}"]
                if truth.assumed
                else []
            ),
            str(fit),
            _within(tables["ground_truth"], "all requests"),
        ]
        held_out = None if fit.refused else fit.held_out(truth)
        if held_out is not None and held_out.any():
            tables["ground_truth_held_out"] = compare(truth, simulated, held_out)
            said = f"the {int(held_out.sum())} requests that the fit did not see (ground_truth_held_out)"
            notes.append(_within(tables["ground_truth_held_out"], said))
        if pairs:
            tables["ground_truth_shared"] = pd.DataFrame([asdict(pair) for pair in pairs])
            alone = compare(truth, replay_truth(replace(truth, contents=()), corrected))
            said = "that begin as an earlier one, read from the run's KV blocks in use (ground_truth_shared)"
            notes.append(f"prompts {said}: {len(pairs)}, an input taken from the run")
            notes.append(_within(alone, "without them"))
        if isinstance(profile.latency, OperatorModel):
            tables["ground_truth_terms"] = terms(truth, profile, fit)
        return Findings(tables, {"ground_truth": figure(truth, simulated)}, notes)


def _within(table: pd.DataFrame, which: str) -> str:
    worst = table.iloc[int(table["diff_percent"].abs().argmax())]
    return (
        f"{which}: {int((table['diff_percent'].abs() <= 1.0).sum())} of {len(table)} figures within 1 %; "
        f"farthest: {worst['metric']} {worst['statistic']}, {worst['diff_percent']:+.1f} %"
    )
