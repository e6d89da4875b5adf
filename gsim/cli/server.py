"""The command line of a program that serves: its own options, and groups and fields as in a simulation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, cast

from gsim.cli.one import divided, settings_of
from gsim.core import ConfigError, GsimError
from gsim.core.options import Options, option_help, parse_options
from gsim.live.rounds import run
from gsim.run.settings import Settings

C = TypeVar("C", bound=Options)


@dataclass(frozen=True)
class ServerProgram(Generic[C]):
    """What one program is: what it says of itself, its options, the groups that it takes, and its work."""

    about: str
    """Stands before the options in its help."""
    config: type[C]
    """Its own options, a dataclass."""
    groups: Sequence[str]
    """The groups of a simulation that mean something here."""
    serve: Callable[[Settings, C], Coroutine[Any, Any, None]]
    """Serves until somebody says stop."""
    chosen: Sequence[str] = ()
    """``GROUP=NAME`` where nobody chooses, instead of what a simulation has."""

    def main(self, words: Sequence[str]) -> int:
        """Run; the exit status is 0 (stopped) or 2 (it cannot be done, and why)."""
        if any(word in ("-h", "--help") for word in words):
            print(f"{self.about}\n{option_help(self.config)}")  # noqa: T201
            return 0
        try:
            config, others = self._read(words)
            _need_servers()
            run(self.serve(settings_of(others), config))
        except GsimError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            return 2
        return 0

    def _read(self, words: Sequence[str]) -> tuple[C, list[str]]:
        """Its options, and the words of the groups; raises ``ConfigError`` for what is neither."""
        names = [field.name for field in fields(cast(Any, self.config))]
        own, others = divided(words, names)
        config = parse_options(self.config, own)
        for word in others:
            if word.lstrip("+").partition("=")[0].partition(".")[0] not in self.groups:
                known = ", ".join((*self.groups, *names))
                raise ConfigError(f"unknown option '{word}'; there are: {known}")
        given = {word.partition("=")[0] for word in others}
        return config, [*(word for word in self.chosen if word.partition("=")[0] not in given), *others]


def _need_servers() -> None:
    try:
        import aiohttp  # noqa: F401
        import httptools  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"servers need {error.name}: pip install 'gsim[live]'") from None
