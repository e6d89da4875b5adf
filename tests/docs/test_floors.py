"""The page of the design and the import contracts say the same: rooms, their floors, what is let through."""

from __future__ import annotations

import re
import tomllib

from pages import ROOT

PAGE = (ROOT / "docs" / "design.md").read_text().partition("## Floors")[2].partition("\n## ")[0]
CONTRACTS = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
FLOORS = CONTRACTS["floors"]


def rooms_of_the_page():
    """Rooms from the lowest up: names before the text, of which a line may have several."""
    lines = re.findall(r"^    (\S.*)", PAGE, flags=re.M)
    return [room for line in lines for room in re.match(r"\w+(, \w+)*", line)[0].split(", ")]


def test_the_page_lists_every_room_in_the_order_that_is_held():
    floors = [{room.strip().removeprefix("gsim.") for room in layer.split("|")} for layer in reversed(FLOORS["layers"])]
    told = rooms_of_the_page()
    assert len(told) == sum(map(len, floors)) > 20
    for floor in floors:
        here, told = told[: len(floor)], told[len(floor) :]
        assert set(here) == floor


def test_every_room_of_the_source_has_a_floor():
    folders = {path.parent.name for path in (ROOT / "gsim").glob("*/__init__.py")}
    assert folders | {"__main__"} == set(rooms_of_the_page())


def test_the_page_names_every_import_that_is_let_through():
    assert set(re.findall(r"`(gsim\S* -> gsim\S*)`", PAGE)) == set(FLOORS["ignore_imports"])


def test_the_contracts_list_every_room_that_must_keep_to_them():
    rooms = {f"gsim.{room}" for room in rooms_of_the_page()} - {"gsim.__main__"}
    assert set(CONTRACTS["Hydra is the command line's"]["source_modules"]) == rooms - {"gsim.cli"}
    policies = CONTRACTS["policies know nothing of engines, profiles or workloads"]
    assert set(policies["source_modules"]) | set(policies["forbidden_modules"]) == rooms
