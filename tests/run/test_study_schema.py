"""The Hydra schema made from dataclasses, and the way back."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from gsim.core import ConfigError
from gsim.core.construct import construct
from gsim.run.schema import node


class Mode(enum.Enum):
    SLOW = "slow"
    FAST = "fast"


@dataclass(frozen=True)
class Inner:
    factor: float = 1.5
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    needed: int
    size: int | None = None
    share: float = 0.5
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = (Inner(2.0),)
    table: dict[str, float] = field(default_factory=lambda: {"x": 1.0})
    word: Literal["one", "two"] = "one"
    mode: Mode = Mode.SLOW
    path: Path | None = None


def composed(**values):
    return OmegaConf.merge(OmegaConf.structured(node("outer", Outer)), values)


def test_defaults_survive_the_round_trip():
    plain = OmegaConf.to_container(composed(needed=3), enum_to_str=True)
    assert plain.pop("name") == "outer"
    assert construct(Outer, plain, "group") == Outer(3)


def test_values_come_back_as_the_declared_types():
    values = {"needed": 1, "many": [{"factor": 3, "names": ["p", "q"]}], "table": {"y": 2}, "path": "x.csv"}
    plain = OmegaConf.to_container(composed(**values, mode="FAST"))
    del plain["name"]
    built = construct(Outer, plain, "group")
    assert built.many == (Inner(3.0, ("p", "q")),)
    assert built.path == Path("x.csv")
    assert built.mode is Mode.FAST
    assert built.table == {"x": 1.0, "y": 2.0}


def test_no_default_is_mandatory():
    assert OmegaConf.is_missing(OmegaConf.structured(node("outer", Outer)), "needed")
    assert MISSING == "???"


def test_a_wrong_type_is_refused_by_name():
    with pytest.raises(ValidationError, match="share"):
        composed(needed=1, share="much")
    with pytest.raises(ConfigKeyError, match="shere"):
        composed(needed=1, shere=0.1)
    with pytest.raises(ConfigKeyError, match="faktor"):
        composed(needed=1, inner={"faktor": 0.1})


def test_an_unknown_field_names_what_is_allowed():
    with pytest.raises(ConfigError, match=r"group has no field 'x'; its fields are: needed, size"):
        construct(Outer, {"x": 1}, "group")


def test_values_replace_defaults():
    made = OmegaConf.structured(node("outer", Outer, {"needed": 7, "many": [{"factor": 4.0, "names": ["z"]}]}))
    assert made.needed == 7
    assert made.many[0].names == ["z"]
