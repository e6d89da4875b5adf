"""``python -m gsim explain request=ID``: one request's story in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gsim.cluster import RunResult
from gsim.core import ConfigError, Outcome, Status
from gsim.inspect.story import Story, followed, stories
from gsim.report.table import render
from gsim.report.wording import number
from gsim.run.settings import Settings

_OUTCOMES = (
    "moved",
    "was refused",
    "was given up",
    "ended before it moved",
    "fell back to the router",
    "was under way",
)


def explain_command(settings: Settings, seed: int, request: str | None) -> str:
    """Simulate the run of this seed and tell what happened to one request."""
    result = followed(settings, seed)
    known = stories(result)
    if request is None or not request.isdigit() or int(request) not in known:
        missed = [i for i, story in known.items() if not _in_time(story.record)]
        some = f": {', '.join(map(str, missed[:8]))}{' ...' * (len(missed) > 8)}" if missed else ""
        raise ConfigError(
            f"request={request}: give one of 0 to {len(known) - 1}; {len(missed)} missed their deadline{some}"
        )
    return f"{_policy(settings)}, seed {seed}\n{tell(known[int(request)], result)}"


def tell(story: Story, result: RunResult) -> str:
    """The story as text: what was asked, what the router saw and chose, what happened, and why it was late."""
    names = [instance.name for instance in result.instances]
    parts = [
        _asked(story.record),
        *(_choice(row, story.record, names) for row in story.decisions if row["what"] == "route"),
    ]
    parts += [_move(move, names) for move in story.moves]
    parts += [_stay(stay, names) for stay in story.stays]
    parts.append(_ending(story, names))
    return "\n".join(part for part in parts if part)


def _policy(settings: Settings) -> str:
    return ", ".join(f"{group}={settings.choices[group].name}" for group in ("router", "predictor", "rectifier"))


def _in_time(record: Mapping[str, Any]) -> bool:
    return bool(record["status"] == Status.FINISHED and record["finished_s"] - record["arrival_s"] <= record["slo_s"])


def _asked(record: Mapping[str, Any]) -> str:
    session = f" (turn {record['turn']} of session {record['session_id']})" if record["turn"] > 0 else ""
    never = math.isnan(record["arrival_s"])
    arrived = "had not arrived when the run stopped," if never else f"arrived at {record['arrival_s']:.3f} s"
    return (
        f"request {record['request_id']}{session}, class {record['task']}: {arrived} with "
        f"{record['prompt_tokens']} prompt tokens, due {record['slo_s']:.3f} s later. It was to generate "
        f"{record['output_tokens']} tokens, which the router could not know."
    )


def _choice(row: Mapping[str, Any], record: Mapping[str, Any], names: list[str]) -> str:
    predicted = row["predicted_tokens"]
    known = not math.isnan(predicted)
    length = predicted if known else record["output_tokens"]
    chosen = row["instance"]
    body = []
    for i, name in enumerate(names):
        prefill_s = row["prefill_s_per_token"][i] * record["prompt_tokens"]
        decode_s = row["tpot_s"][i] * length
        total_s = row["queue_s"][i] + prefill_s + decode_s
        body.append(
            [
                ("-> " if i == chosen else "   ") + name,
                str(row["in_flight"][i]),
                f"{row['queue_s'][i]:.3f}",
                f"{prefill_s:.3f}",
                f"{decode_s:.3f}",
                f"{total_s:.3f}",
                "yes" if row["time_s"] + total_s <= record["arrival_s"] + record["slo_s"] else "no",
            ]
        )
    said = f"predicted {number(predicted)} output tokens" if known else "asked no predictor (shown for the true length)"
    verdict = names[chosen] if isinstance(chosen, int) else str(chosen)
    table = render(["   instance", "in flight", "queue s", "prefill s", "decode s", "total s", "in time"], body)
    return f"at {row['time_s']:.3f} s the router {said}, saw these estimates and chose {verdict}:\n{table}"


def _move(move: Mapping[str, Any], names: list[str]) -> str:
    text = (
        f"at {move['decided_s']:.3f} s the rectifier wanted it moved from {names[int(move['source'])]} to "
        f"{names[int(move['target'])]}; the move {_OUTCOMES[int(move['outcome'])]}"
    )
    if int(move["outcome"]) == Outcome.MOVED:
        still = float(move["next_token_s"]) - float(move["stopped_s"])
        text += f" ({int(move['context_tokens'])} tokens of context"
        text += f", {still:.3f} s without a token)" if not math.isnan(still) else ")"
    return text + "."


def _stay(stay: Any, names: list[str]) -> str:
    if math.isnan(stay.first_token_s):
        return f"on {names[stay.instance]} from {stay.begin_s:.3f} to {stay.end_s:.3f} s, without a token."
    return (
        f"on {names[stay.instance]} from {stay.begin_s:.3f} s: first token there after "
        f"{stay.first_token_s - stay.begin_s:.3f} s, {'done' if stay.last else 'left'} at {stay.end_s:.3f} s."
    )


def _ending(story: Story, names: list[str]) -> str:
    record = story.record
    if record["status"] != Status.FINISHED:
        return f"It was {Status(record['status']).name.lower()}: a miss."
    e2e_s = record["finished_s"] - record["arrival_s"]
    spare_s = record["slo_s"] - e2e_s
    if spare_s >= 0:
        return f"It finished after {e2e_s:.3f} s, {spare_s:.3f} s before its deadline."
    return f"It finished after {e2e_s:.3f} s, {-spare_s:.3f} s late. {_why(story, names)}"


def _why(story: Story, names: list[str]) -> str:
    """The largest difference between what the router expected at the last choice and what came."""
    record = story.record
    routed = [row for row in story.decisions if row["what"] == "route" and isinstance(row["instance"], int)]
    if not routed or not story.stays:
        return ""
    row, stay = routed[-1], story.stays[-1]
    i = row["instance"]
    predicted = row["predicted_tokens"]
    per_token_s = row["tpot_s"][i]
    decode_s = record["finished_s"] - stay.first_token_s if not math.isnan(stay.first_token_s) else 0.0
    reasons = {
        f"waiting and prefill took longer than was estimated on {names[i]}": (stay.first_token_s - stay.begin_s)
        - row["queue_s"][i]
        - row["prefill_s_per_token"][i] * record["prompt_tokens"],
        f"decoding on {names[stay.instance]} was slower than was estimated": decode_s
        - per_token_s * record["output_tokens"],
        "it was held at the gateway": story.stays[0].begin_s - record["arrival_s"],
    }
    if not math.isnan(predicted):
        reasons["it generated more tokens than was predicted"] = per_token_s * (record["output_tokens"] - predicted)
    worst = max(reasons, key=lambda text: reasons[text] if not math.isnan(reasons[text]) else -math.inf)
    if not reasons[worst] > 0:
        return "No instance was expected to make it: the pool was full for this deadline."
    return f"Mostly because {worst} (by {reasons[worst]:.3f} s)."
