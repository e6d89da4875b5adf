"""Which swept fields make a policy, and what the policy is called: one name for one policy, everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gsim.study.axes import Axis, Entry


class Named(Protocol):
    """What is asked of a cell."""

    @property
    def swept(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def entries(self) -> tuple[Entry, ...]: ...  # noqa: D102
    def value(self, field: str) -> Any: ...  # noqa: D102


def policy_fields(axes: Sequence[Axis], compared: Sequence[str], swept: Sequence[str]) -> frozenset[str]:
    """The swept fields that belong to the policy, not to the grid point.

    Those that the experiment compares, the parameters of a compared group (``router.margin_s``), and all that the
    entries of an axis set that has labels or that is compared itself.
    """
    fields = {field for field in swept if field in compared or field.split(".")[0] in compared}
    for axis in axes:
        if axis.labelled or axis.name in compared:
            fields |= set(axis.fields)
    return frozenset(fields)


def labels(cells: Sequence[Named], axes: Sequence[Axis], compared: Sequence[str], fields: frozenset[str]) -> list[str]:
    """The name of every cell's policy: the labels of its entries, then what else of the policy varies in the grid."""
    varying = [field for field in compared if _varies(cells, field)] or list(compared)
    further = [field for field in cells[0].swept if field in fields and field not in compared and _varies(cells, field)]
    return [_label(cell, axes, compared, varying, further) for cell in cells]


def _label(
    cell: Named, axes: Sequence[Axis], compared: Sequence[str], varying: Sequence[str], further: Sequence[str]
) -> str:
    named = [(axis, entry) for axis, entry in zip(axes, cell.entries) if entry.label]
    told = {field for axis, _ in named for field in (axis.name, *axis.fields)}
    words = [entry.label for _, entry in named]
    for field in compared:
        if field not in told and (field in varying or (field == "router" and not named)):
            words += _word(cell, field, varying)
    # A parameter that only other policies set is no part of this one's name.
    chosen = {field for entry in cell.entries for field in entry.values}
    for field in further:
        if field in chosen and field not in told:
            words += _word(cell, field, [*varying, *further])
    return " + ".join(words)


def _word(cell: Named, field: str, shown: Sequence[str]) -> list[str]:
    """An option's name as it is, a field as ``name=value`` (with its group where two of them are called alike)."""
    value = cell.value(field)
    if value in ("none", None):
        return []
    if isinstance(value, str) and "." not in field:
        return [value]
    if isinstance(value, Mapping) and "name" in value:
        # An option that is chosen in a field, with fields of its own.
        own = ", ".join(f"{name}={item}" for name, item in value.items() if name != "name")
        value = f"{value['name']}({own})" if own else value["name"]
    short = field.rpartition(".")[2]
    alike = Counter(other.rpartition(".")[2] for other in set(shown))[short] > 1
    return [f"{field if alike else short}={value}"]


def _varies(cells: Sequence[Named], field: str) -> bool:
    return len({repr(cell.value(field)) for cell in cells}) > 1


def without_field(label: str, field: str, value: Any) -> str:
    """A policy's name without one of its parameters: where that is the axis of a figure, a line is all its values."""
    gone = {f"{field}={value}", f"{field.rpartition('.')[2]}={value}"}
    return " + ".join(word for word in label.split(" + ") if word not in gone)
