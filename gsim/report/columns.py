"""What every column of every file of a results folder means: rendered as a page, and held complete by a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """A file of a results folder."""

    row: str
    """What a row of it is."""
    columns: Mapping[str, str]
    """Column -> what it says, with its unit. Swept fields (``trace.rate_per_s`` ...) come before these."""


_WHO = {
    "experiment": "the experiment's name",
    "router": "the router's name",
    "rectifier": "the rectifier's name",
    "policy": "the policy's name in figures: its label, or what was compared",
}
_LATENCIES = {
    "ttft": "time to the first token, from arrival, of finished requests",
    "tpot": "time per output token after the first, of finished requests with two or more",
    "e2el": "end-to-end latency, from arrival to the last token, of finished requests",
}
_METRICS = {
    "requests": "requests that are counted (see studies: what is counted)",
    "completed": "of those, finished (in time or not)",
    "rejected": "of those, refused by the router or the engine (too long for it), or held for longer than `max_hold_s`",
    "failed": "of those, lost with an instance and not tried again, or dependent on one that was",
    "cut": "of those, open when the run stopped: misses",
    "truncated": "of those, cut short by the engine's limits: not good, unless `goodput=truncated:good`",
    "preempted": "of those, preempted at least once",
    "preemptions": "how often they were preempted",
    "migrated": "of those, moved at least once",
    "migrations": "how often they were moved",
    "good": "finished within their SLO, and within the further limits of `goodput`",
    "offered_rps": "counted requests per second of the window: what users send if nothing is slow; empty for a closed "
    "population, which offers no rate",
    "arrived_rps": "requests per second that arrived inside the window, counted or not",
    "goodput_rps": "good requests per second of the window: `attainment` times `offered_rps`",
    "attainment": "good requests over counted requests",
    "duration": "seconds from the window's beginning to the last completion, as `vllm bench serve` has it",
    "request_throughput": "completed requests per second of `duration`",
    "request_goodput": "good requests per second of `duration`, as `vllm bench serve` has it",
    "output_throughput": "generated tokens of completed requests per second of `duration`",
    "cached_fraction": "prompt tokens that came out of the prefix cache, of all prompt tokens served",
    "sessions": "sessions that are counted, those of one request included",
    "good_sessions": "of those, with all requests and their own makespan in time",
    "session_attainment": "good sessions over counted sessions",
    "session_goodput_rps": "good sessions per second of the window",
    "cut_sessions": "counted sessions that had not ended when the run stopped",
    "mean_makespan_ms": "mean time from a session's first arrival to its last completion, ms",
    "p95_makespan_ms": "95th percentile of that, ms",
    "stay_s": "95 % of the requests belong to sessions that take no longer, s; empty: longer than the run",
    "migrations_per_request": "`migrations` over `requests`",
    "migrated_attainment": "attainment of those that were moved",
    "recomputed_tokens": "tokens whose KV was computed again after a move, a preemption or a crash",
    "recomputed_fraction": "of all prompt and generated tokens",
    "moves_decided": "moves that the rectifier asked for, over the whole run",
    "moves_back": "of those, to the instance that the request had come from",
    "moves_refused": "of those, refused by the target",
    "moves_given_up": "of those, given up on the way",
    "mean_stalled_ms": "mean time without a token during a move, ms",
    "handed_over": "in a pool with roles: share of the requests that went on elsewhere than where their prompt was",
    "mean_handover_ms": "of those: mean time from the first token to the next one, ms",
    "mean_copy_ms": "of that: until the KV cache had arrived, ms",
    "ttft_attainment": "with a limit for `ttft` in `goodput`: requests whose first token kept it, of all counted",
    "tpot_attainment": "with a limit for `tpot`: requests that finished and kept it, of all counted",
    "e2el_attainment": "with a limit for `ttft` or `tpot`: requests that finished by their deadline, of all counted",
    "window_start_s": "beginning of the counted window, s of simulated time",
    "window_until_s": "its end",
    "sessions_in_system": "mean number of open sessions over the window",
    "requests_in_system": "mean number of requests in flight or held over the window",
    "growth_sessions_per_s": "slope of the number of open sessions over the window, 1/s",
    "growth_requests_per_s": "slope of the number of requests over the window, 1/s",
    "sessions_drift": "change of the number of open sessions over the window, as a part of its mean",
    "requests_drift": "change of the number of requests over the window, as a part of its mean",
    "latency_drift": "the same of the time in the system as a share of the deadline",
    "attainment_first_half": "attainment of what belongs to the window's first half",
    "attainment_second_half": "and to its second half",
    "tokens_per_verification": "with `engine.speculation`: tokens that an iteration yields to a sequence, over "
    "the whole run",
    "accepted_fraction": "and tokens that were accepted, of all that were proposed",
    "host_hit_fraction": "with `engine.host_kv`: prompt tokens that came out of host memory, of all that were looked "
    "up, over the whole run",
    "host_in_gb": "and what was copied from host memory to the cards, GB",
    "host_out_gb": "and from the cards to host memory, GB",
    "cost_usd": "what the instances cost over the whole run, USD: price times the time from start to stop, booting and "
    "draining included; empty where one has no price",
    "usd_per_million_tokens": "`cost_usd` for a million generated tokens",
    "card_hours": "hours that cards were paid for",
    "instances_up": "instances that were paid for, on average over the run",
    "starts": "instances that a scaler started",
    "energy_j": "energy of the cards over the whole run, J: busy power while iterations are computed (less where "
    "`engine.policy` slows a card), idle power for the rest of the paid time (`gsim/latency/power.py`); empty for "
    "cards without figures",
    "joule_per_token": "`energy_j` per generated token",
    "cards": "cards of the pool (of one that grows and shrinks: paid for, on average)",
    "usd_per_hour": "what the pool costs, USD per hour, by its profiles' prices (of one that grows and shrinks: on "
    "average); empty where one has none",
    "goodput_per_card": "`goodput_rps` over `cards`",
    "goodput_per_usd": "good requests for a dollar: 3600 `goodput_rps` over `usd_per_hour`",
    "skipped_rows": "rows of a trace file that could not be read and were left out (`trace.on_error=skip`)",
    "upper_bound": "with `bound=true`: goodput that no policy exceeds, requests/s (docs/optimum.md)",
    "regret_to_bound": "`upper_bound` less `goodput_rps`",
    "plan": "with a cell of `router=ilp_plan`: its goodput, requests/s",
    "regret_to_plan": "`plan` less `goodput_rps`",
}
for _name, _meaning in _LATENCIES.items():
    _METRICS[f"mean_{_name}_ms"] = f"mean {_meaning}, ms"
    _METRICS |= {f"p{share}_{_name}_ms": f"{share}th percentile of it, ms" for share in (50, 90, 95, 99)}
    _METRICS |= {f"median_{_name}_ms": "its median, ms", f"std_{_name}_ms": "its standard deviation, ms"}

#: The metrics of a run, by name.
METRICS: Mapping[str, str] = _METRICS

FILES: Mapping[str, File] = {
    "runs.csv": File("a run (a cell and a seed)", {**_WHO, "seed": "the run's seed", **_METRICS}),
    "results.csv": File(
        "a cell (a policy at a grid point, all seeds)",
        {
            **_WHO,
            "seeds": "how many seeds",
            "stationary": "whether there is a level: `true`, `false`, empty where it cannot be said",
            "not_stationary_because": "why not, or why it cannot be said",
            "METRIC": "the mean over seeds of every metric of `runs.csv`",
            "METRIC_low": "lower end of its 95 % interval over seeds (goodput, attainment, growth)",
            "METRIC_high": "upper end",
        },
    ),
    "paired.csv": File(
        "two policies at a grid point, by one metric",
        {
            "experiment": _WHO["experiment"],
            "metric": "what is compared",
            "first": "one policy",
            "second": "the other one",
            "difference": "mean over seeds of the first's less the second's value of the same seed",
            "difference_low": "lower end of its 95 % interval (Student's t)",
            "difference_high": "upper end",
            "p_value": "of a two-sided paired t test of no difference; where all seeds are equally far apart, of the "
            "sign test, and the interval is empty while that is above 0.05",
            "pairs": "seeds that both have",
            "significant": "the interval excludes 0",
        },
    ),
    "instances.csv": File(
        "a cell and an instance, means over seeds",
        {
            **_WHO,
            "instance": "its name in the pool",
            "gpu": "its card",
            "requests": "requests that ended there",
            "share": "of all requests",
            "generated_tokens": "output tokens of those, wherever they were generated",
            "utilisation": "share of the simulated time in which an iteration was computed",
            "preemptions": "preemptions there",
            "paid_s": "seconds that it was paid for: from start to stop, booting and draining included",
            "starts": "how often a scaler started it",
            "cost_usd": "what it cost, USD; empty: it has no price",
            "energy_j": "what its cards drew, J; empty: their power is not known",
        },
    ),
    "knees.csv": File(
        "a policy, where the axis is a load",
        {
            "experiment": _WHO["experiment"],
            "policy": _WHO["policy"],
            "load": "the axis",
            "target": "the attainment that is asked for",
            "knee": "the largest load tried that has a level with the target in time; empty: none has",
            "next_load_tried": "the next one, which has not; empty: the knee is above the highest load tried",
            "crossing": "where attainment crosses the target, by seed; empty where the next load has no level",
            "crossing_low": "lower end of its 95 % interval over seeds",
            "crossing_high": "upper end",
            "said": "what is to be known of it, in words",
        },
    ),
    "requests.parquet": File(
        "a request of a run",
        {
            **{name: _WHO[name] for name in ("router", "rectifier", "policy")},
            "seed": "the run's seed",
            "request_id": "its number in the run, by which `explain` finds it",
            "session_id": "its session",
            "turn": "its place in the session, from 0",
            "task": "its task class",
            "instance": "the instance where it ended; empty: none",
            "status": "`finished`, `rejected`, `failed` or `cut`",
            "arrival_s": "when it reached the gateway, s of simulated time",
            "dispatched_s": "when it was sent to the instance where it ended",
            "first_token_s": "when its first output token came; empty: none did",
            "finished_s": "when its last token came; empty: it did not finish",
            "ended_s": "when it ended in whatever way",
            "slo_s": "its end-to-end objective, s from arrival",
            "prompt_tokens": "length of its prompt",
            "output_tokens": "its true output length, which no policy sees",
            "generated_tokens": "output tokens that were generated",
            "cached_tokens": "prompt tokens that came out of the prefix cache",
            "computed_tokens": "tokens of prompts that were prefilled for it",
            "recomputed_tokens": "of those, computed again after a move, a preemption or a crash",
            "preemptions": "how often it was preempted",
            "migrations": "how often it was moved",
            "retries": "how often it was sent again because its instance was lost",
            "predicted_tokens": "output tokens that were predicted when it was routed first; empty: nobody asked",
            "e2e_s": "from arrival to the last token, s",
            "good": "finished within its SLO and the further limits",
            "session_began_s": "arrival of its session's first request",
            "counted": "whether it is counted",
        },
    ),
}
