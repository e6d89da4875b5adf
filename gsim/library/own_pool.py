"""A pool of profiles that a caller has loaded or made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gsim.cluster import InstanceSpec
from gsim.core import ConfigError
from gsim.engine import EngineConfig
from gsim.latency import Profile, load_profile
from gsim.run.pool import API_S, instance_specs


@dataclass(frozen=True)
class OwnPool:
    """One instance per profile."""

    profiles: tuple[Profile, ...]
    api_s: float = API_S
    """See ``pool.api_s``."""

    def build(self, engine: EngineConfig) -> tuple[InstanceSpec, ...]:
        """The instances, in order."""
        return instance_specs([(profile, engine) for profile in self.profiles], self.api_s)


def own_pool(given: Any) -> Any:
    """A profile, or a list of profiles and names of profiles (each an instance), as a pool; others as they are."""
    if isinstance(given, Profile):
        return OwnPool((given,))
    if isinstance(given, Sequence) and given:
        return OwnPool(tuple(_profile(item) for item in given))
    return given


def _profile(item: Any) -> Profile:
    if isinstance(item, Profile):
        return item
    if isinstance(item, str):
        return load_profile(item)
    raise ConfigError(f"pool: a list has profiles or names of profiles, not {item!r}")
