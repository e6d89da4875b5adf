"""One configuration from words, for programs that simulate nothing themselves: the same groups and fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import message_of
from gsim.cli.words import as_given
from gsim.core import ConfigError
from gsim.run.settings import Settings


def settings_of(words: Sequence[str]) -> Settings:
    """The configuration that ``GROUP=NAME`` and ``GROUP.FIELD=VALUE`` choose; raises ``ConfigError``."""
    register_schema()
    try:
        with hydra_session() as hydra:
            config, multirun = compose(hydra, as_given(words))
            if multirun:
                raise ConfigError("a sweep is no configuration of one server: give one value for each field")
            return Settings.read(plain(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(message_of(error)) from None


def divided(words: Sequence[str], own: Iterable[str]) -> tuple[list[str], list[str]]:
    """Words whose key is one of ``own`` (or a field of it), and all others."""
    names = set(own)
    mine = [word for word in words if word.partition("=")[0].partition(".")[0] in names]
    return mine, [word for word in words if word not in mine]
