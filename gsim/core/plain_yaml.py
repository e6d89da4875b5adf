"""YAML files as plain values: bounded, whatever they refer to, and numbers only where they are written as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gsim.core import InputError

_MOST_VALUES = 200_000
"""Values in a file, those counted again that an alias repeats."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would read ``1_02`` as 102."""


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if "_" in text:
        line = node.start_mark.line + 1
        raise InputError(f"line {line}: '{text}' is no number; write {text.replace('_', '')}, or quote it as text")
    return int(loader.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def read_plain_yaml(path: Path) -> Any:
    """The content of a file (None: it is empty); raises ``InputError`` naming the file and what is wrong with it."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, Loader=_Loader)
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
