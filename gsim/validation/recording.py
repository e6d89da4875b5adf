"""What live replays of a load left on disk: enough to judge another profile by them without the server.

``NAME_requests.parquet`` has a row per request and run (``live 1`` ..., ``simulated``: its ``sent_s`` are the load's
arrivals), ``NAME_tokens.parquet`` every arrival of tokens (run, request, time_s from the replay's start, tokens so
far), and ``NAME.json`` the options and the share of its time that the server waited for a core.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gsim.core.errors import InputError
from gsim.core.files import write_whole, written
from gsim.validation.live_load import Load

SIMULATED = "simulated"
#: Columns of numbers that are needed, the least of each, and whether a request may have none (an answer of a token has
#: no time between tokens, one that failed has no times).
_COLUMNS = {
    "sent_s": (0, False),
    "prompt_tokens": (1, False),
    "output_tokens": (1, False),
    **dict.fromkeys(("ttft_s", "tpot_s", "e2e_s"), (0, True)),
}


@dataclass(frozen=True)
class Replay:
    """One live replay, and how much other programs disturbed it (0 where nobody watched)."""

    table: pd.DataFrame
    """A row per request, in the load's order: ``requests_table``."""
    tokens: pd.DataFrame
    """A row per arrival of tokens: request, time_s, tokens."""
    waited: float


@dataclass(frozen=True)
class Recording:
    """A load and the outcomes of its live replays."""

    load: Load
    live: Sequence[pd.DataFrame]
    waited: float
    """The largest of the replays (0 where it is not known)."""


def keep(folder: Path, name: str, options: dict[str, Any], replays: Sequence[Replay], simulated: pd.DataFrame) -> None:
    """Write the three files of a validation."""
    runs = [f"live {i + 1}" for i in range(len(replays))]
    rows = [replay.table.assign(run=run) for run, replay in zip(runs, replays, strict=True)]
    with written(folder / f"{name}_requests.parquet") as aside:
        pd.concat([*rows, simulated.assign(run=SIMULATED)]).to_parquet(aside, index=False)
    tokens = [replay.tokens.assign(run=run) for run, replay in zip(runs, replays, strict=True)]
    with written(folder / f"{name}_tokens.parquet") as aside:
        pd.concat(tokens).to_parquet(aside, index=False)
    told = {"options": options, "waited": [replay.waited for replay in replays]}
    write_whole(folder / f"{name}.json", json.dumps(told, indent=1) + "\n")


def read_recording(folder: Path, name: str) -> Recording:
    """The live replays that ``validate`` kept under ``name``; raises ``InputError`` where there are none."""
    path = folder / f"{name}_requests.parquet"
    if not path.exists():
        raise InputError(f"{folder} holds no live replays called '{name}' (no {path.name}): run validate first")
    rows = _rows(path)
    runs = {str(run): table.reset_index(drop=True) for run, table in rows.groupby("run")}
    simulated = runs.pop(SIMULATED, None)
    if simulated is None or not runs:
        raise InputError(f"{path}: needs rows of the runs '{SIMULATED}' and 'live 1' ...")
    load = Load(*(tuple(simulated[column].tolist()) for column in ("sent_s", "prompt_tokens", "output_tokens")))
    for run, table in runs.items():
        # Requests are held against one another in the load's order.
        if table[["prompt_tokens", "output_tokens"]].ne(simulated[["prompt_tokens", "output_tokens"]]).any(axis=None):
            raise InputError(f"{path}: run '{run}' is not of the load that was simulated")
    told = folder / f"{name}.json"
    waited = _waited(told) if told.exists() else 0.0
    return Recording(load, [table.drop(columns="run") for table in runs.values()], waited)


def _rows(path: Path) -> pd.DataFrame:
    """A row per request and run, every number a finite one of 0 or more (but for what an answer has not)."""
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from None
    missing = [column for column in ("run", *_COLUMNS) if column not in rows]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}")
    for column, (least, empty) in _COLUMNS.items():
        told = rows[column]
        if not pd.api.types.is_numeric_dtype(told):
            raise InputError(f"{path}: {column} must be numbers")
        fits = (told >= least) & (told < math.inf) | (told.isna() & empty)
        if not fits.all():
            raise InputError(f"{path}: {column} must be finite numbers of at least {least}, not {told[~fits].iloc[0]}")
    return rows


def _waited(path: Path) -> float:
    try:
        return float(max(json.loads(path.read_text(encoding="utf-8"))["waited"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: waited must be a list of numbers ({type(error).__name__})") from None
