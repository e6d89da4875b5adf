"""``NAME=VALUE`` arguments of the benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def read_options(arguments: Sequence[str], **defaults: str) -> dict[str, str]:
    """The defaults, with what the arguments set; an argument that sets none of them ends the program, by name."""
    options = dict(defaults)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in options or not equals:
            known = ", ".join(f"{name}={value}" for name, value in defaults.items())
            sys.exit(f"unknown option '{argument}'; there are: {known}")
        options[name] = value
    return options
