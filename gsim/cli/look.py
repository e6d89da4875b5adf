"""``explain``, ``timeline`` and ``page``: one run looked at."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, plain
from gsim.cli.launch import place_rates, results_folder, timeline
from gsim.cli.words import as_given
from gsim.core import ConfigError
from gsim.run.settings import read_seeds
from gsim.run.store import writable
from gsim.study.grid import Cell, single
from gsim.study.study import Commands

#: Words that say which run, and of what in it.
_OWN = {
    "explain": ("request", "policy", "seed"),
    "timeline": ("policy", "seed"),
    "page": ("policy", "seed", "file"),
}


def look(what: str, words: Sequence[str], commands: Commands) -> int:
    """``what`` of a run of one policy at one grid point and of one seed."""
    own = {name: word.partition("=")[2] for word in words if (name := word.partition("=")[0]) in _OWN[what]}
    overrides = as_given([word for word in words if word.partition("=")[0] not in own])
    with hydra_session() as hydra:
        config, multirun = compose(hydra, overrides)
        if multirun:
            place_rates(config, overrides, commands, dry=True)
        made = grid(hydra, config, overrides) if multirun else single(plain(config))
        values = plain(config, missing_ok=multirun)
    cell = made.chosen(own.get("policy"))
    seed = cell.seeds[0] if "seed" not in own else read_seeds([_whole(own["seed"])])[0]
    if what == "explain":
        from gsim.inspect.explain import explain_command

        print(explain_command(cell.settings, seed, own.get("request")))  # noqa: T201
        return 0
    out = writable(results_folder(values))
    if what == "page":
        chosen = [f"policy={cell.label}"] if len(made.cells) > 1 else []
        return _page(cell, seed, [*overrides, *chosen, f"seed={seed}"], out / own.get("file", "run.html"))
    timeline(cell, out, seed)
    print(f"{cell.label}, seed {seed}: {shlex.quote(str(out / 'timeline.json'))} (opens in Perfetto), timeline.png")  # noqa: T201
    return 0


def _page(cell: Cell, seed: int, words: Sequence[str], path: Path) -> int:
    from gsim.inspect.run_page import leave_page

    missed = leave_page(cell.settings, seed, f"{cell.label}, seed {seed}", shlex.join(words), path)
    print(f"{cell.label}, seed {seed}: {missed} requests missed; {shlex.quote(str(path))} says who and why")  # noqa: T201
    return 0


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"seed={text}: must be a whole number from 0")
    return int(text)
