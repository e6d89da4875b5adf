"""Is the simulator right about a real GPU? A run that a real vLLM served, replayed."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core import register
from gsim.study.study import Context, Findings


@dataclass(frozen=True)
class ProfileOptions:
    """Which profile."""

    path: str = "???"
    """Name, file, or folder of operator tables."""


@register("study", "ground_truth")
@dataclass(frozen=True)
class GroundTruthStudy:
    """Replay the requests that a real engine served, with its profile and its limits, and compare the timestamps."""

    ground_truth: str = "???"
    """Folder with requests.csv and meta.json of the real run, or a JSON result of vllm bench serve."""
    workload: str | None = None
    """JSON lines with the prompts' token ids (which of them begin alike), where at hand."""
    profile: ProfileOptions = field(default_factory=ProfileOptions)

    def run(self, context: Context) -> Findings:
        """One replay: nothing in it is random."""
        from gsim.calibration.ground_truth import compare, figure, read_ground_truth, replay_truth
        from gsim.calibration.ground_truth_terms import terms
        from gsim.latency import OperatorModel, load_profile

        truth = read_ground_truth(self.ground_truth, self.workload)
        profile = load_profile(self.profile.path)
        simulated = replay_truth(truth, profile)
        table = compare(truth, simulated)
        worst = table.iloc[int(table["diff_percent"].abs().argmax())]
        notes = [
            f"{len(truth.requests)} requests, {len(simulated.iterations)} iterations, "
            f"{int(simulated.preemptions.sum())} preemptions; times in milliseconds",
            f"{int((table['diff_percent'].abs() <= 1.0).sum())} of {len(table)} figures within 1 %; "
            f"farthest: {worst['metric']} {worst['statistic']}, {worst['diff_percent']:+.1f} %",
        ]
        tables = {"ground_truth": table}
        if isinstance(profile.latency, OperatorModel):
            tables["ground_truth_terms"] = terms(truth, profile)
        return Findings(tables, {"ground_truth": figure(truth, simulated)}, notes)
