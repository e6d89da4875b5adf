"""``explain`` and ``timeline``: one run looked at."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, plain
from gsim.cli.launch import place_rates, results_folder, timeline
from gsim.cli.words import as_given
from gsim.core import ConfigError
from gsim.run.settings import read_seeds
from gsim.run.store import writable
from gsim.study.grid import single
from gsim.study.study import Commands


def look(what: str, words: Sequence[str], commands: Commands) -> int:
    """``what`` of a run of one policy at one grid point and of one seed."""
    own = {word.partition("=")[0]: word.partition("=")[2] for word in words if _of_one_run(word)}
    overrides = as_given([word for word in words if not _of_one_run(word)])
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
    timeline(cell, out, seed)
    print(f"{cell.label}, seed {seed}: {shlex.quote(str(out / 'timeline.json'))} (opens in Perfetto), timeline.png")  # noqa: T201
    return 0


def _of_one_run(word: str) -> bool:
    return word.startswith(("request=", "policy=", "seed="))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"seed={text}: must be a whole number from 0")
    return int(text)
