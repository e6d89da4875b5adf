"""YAML files as plain values: bounded, whatever they refer to, and numbers only where they are written as numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gsim.core import InputError
from gsim.core.files import check_regular

_MOST_VALUES = 200_000
"""Values in a file, those counted again that an alias repeats."""


_MOST_DIGITS = 18
#: Whole numbers and others as everybody writes them.
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
_REAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader; mappings that merge one another (``<<``) stand for no more values than a file may have.

    Raises ``InputError`` with the line where they do.
    """

    _merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what a mapping merges into it."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self._count(part)
        super().flatten_mapping(node)

    def _count(self, part: yaml.Node) -> None:
        if isinstance(part, yaml.MappingNode):
            self.flatten_mapping(part)
            self._merged += len(part.value)
        if self._merged > _MOST_VALUES:
            line = part.start_mark.line + 1
            raise InputError(
                f"line {line}: mappings that are merged have more than {_MOST_VALUES} values; shorten them"
            )


class PlainLoader(BoundedLoader):
    """PyYAML would read ``1_02`` as 102, ``010`` as 8 and ``1:30`` as 90.

    Raises ``InputError`` with the line for a number that is written so.
    """


def _number(node: yaml.ScalarNode, form: re.Pattern[str]) -> None:
    text = str(node.value)
    if form.fullmatch(text) is None:
        line = node.start_mark.line + 1
        wanted = text.replace("_", "").lstrip("0")
        better = wanted if ":" not in text and wanted[:1].isdigit() else "a decimal number"
        raise InputError(f"line {line}: '{text}' is no number; write {better}, or quote it as text")


def _whole(loader: PlainLoader, node: yaml.ScalarNode) -> int:
    _number(node, _DECIMAL)
    if len(node.value) > _MOST_DIGITS:
        line = node.start_mark.line + 1
        raise InputError(f"line {line}: {node.value[:_MOST_DIGITS]}... has {len(node.value)} digits; allowed: 18")
    return int(loader.construct_yaml_int(node))


def _date(loader: PlainLoader, node: yaml.ScalarNode) -> Any:
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError as error:
        line = node.start_mark.line + 1
        raise InputError(f"line {line}: '{node.value}' is no date ({error}); quote it as text") from None


def _real(loader: PlainLoader, node: yaml.ScalarNode) -> float:
    _number(node, _REAL)
    return float(loader.construct_yaml_float(node))


PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole)
PlainLoader.add_constructor("tag:yaml.org,2002:float", _real)
PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", _date)


def read_plain_yaml(path: Path) -> Any:
    """The content of a file (None: it is empty); raises ``InputError`` naming the file and what is wrong with it."""
    try:
        check_regular(path)
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, Loader=PlainLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    check_size(path, content)
    return content


def check_size(path: Path, content: Any) -> None:
    """Aliases are cheap to read and can stand for more values than there is memory for (or for themselves)."""
    left = [content]
    seen = 0
    while left:
        value = left.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise InputError(f"{path}: more than {_MOST_VALUES} values (aliases repeat some of them); shorten it")
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
