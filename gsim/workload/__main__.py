"""``python -m gsim.workload``: look into a trace, move it between formats."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from gsim.core import ConfigError, GsimError, Session, Streams, lookup
from gsim.core.options import split_words, typed
from gsim.core.registry import entries
from gsim.workload.formats.detect import detect
from gsim.workload.formats.writers import WRITERS
from gsim.workload.inspect.drawing import draw
from gsim.workload.inspect.inspection import inspect
from gsim.workload.slo import Fixed, Recorded

USAGE = """\
usage: python -m gsim.workload inspect [FILE] [format=NAME] [out=FIGURE.png] [seed=0] [block_size=16] [FIELD=VALUE ...]
       python -m gsim.workload convert [FILE] OUT [to=agentic_mooncake] [format=NAME] [seed=0] [block_size=16]
                                       [FIELD=VALUE ...]

inspect prints rows, rate, burstiness, percentiles of lengths, turns and gaps, and what an infinite prefix cache would
reuse; out= draws them. convert writes the trace as agentic_mooncake (dependency graph), mooncake (sessions) or
mooncake_requests (single requests in time). Generated traces need no FILE: inspect format=mix requests=5000.
The format is found out from the first row, or given; FIELDs are the trace's own (limit=1000 rate_per_s=5 ...)."""


class _Asked:
    """A trace as the command line describes it."""

    def __init__(self, files: list[str], given: dict[str, str]) -> None:
        path = files[0] if files else None
        self.seed = _whole(given, "seed", 0)
        name = given.pop("format", None)
        if name is None:
            if path is None:
                raise ConfigError(f"FILE or format=NAME is needed; formats: {', '.join(entries('trace'))}")
            name = detect(path)
        config = lookup("trace", name).config
        # A trace's own block size is also the natural one to count its blocks by.
        own = "block_size" in getattr(config, "__dataclass_fields__", {})
        self.block_size = _whole(given, "block_size", 512 if own and name == "mooncake" else 16)
        if own:
            given["block_size"] = str(self.block_size)
        if path is not None:
            given["path"] = path
        try:
            self.trace: Any = config(**typed(config, given, f"trace '{name}'"))
        except TypeError as error:
            raise ConfigError(f"trace '{name}': {error}") from None
        self.title = f"{path or 'generated'} ({name})"

    def sessions(self) -> Iterator[Session]:
        # Objectives that the trace records are kept; the rest get one that convert does not write.
        made: Iterator[Session] = self.trace.sessions(Streams(self.seed), Recorded(other_s=float(Fixed.seconds)))
        return made


def _whole(given: dict[str, str], name: str, default: int) -> int:
    text = given.pop(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"{name} must be a whole number, not '{text}'")
    return int(text)


def _inspect(files: list[str], given: dict[str, str]) -> None:
    out = given.pop("out", None)
    if len(files) > 1:
        raise ConfigError(f"one FILE at a time, not {len(files)}")
    asked = _Asked(files, given)
    found = inspect(asked.sessions(), asked.block_size)
    print(asked.title)
    print("\n".join(found.lines()))
    report = getattr(asked.trace, "report", None)
    if report is not None:
        print(f"read                  {report}")
    if out is not None:
        try:
            draw(found, asked.title.rpartition("/")[2], out)
        except (OSError, ValueError) as error:
            raise ConfigError(f"out={out} cannot be written: {error}") from None
        print(f"figure in             {out}")


def _convert(files: list[str], given: dict[str, str]) -> None:
    if not 1 <= len(files) <= 2:
        raise ConfigError("convert needs OUT, and FILE before it unless the trace is generated")
    to = given.pop("to", "agentic_mooncake")
    if to not in WRITERS:
        raise ConfigError(f"to must be one of {', '.join(WRITERS)}; not '{to}'")
    asked = _Asked(files[:-1], given)
    try:
        requests = WRITERS[to](asked.sessions(), files[-1], block_size=asked.block_size)
    except OSError as error:
        raise ConfigError(f"{files[-1]} cannot be written: {error.strerror}") from None
    print(f"{requests} requests of {asked.title} written to {files[-1]} as {to}")


def main(words: list[str]) -> int:
    """Run a command; 0 where it worked."""
    commands = {"inspect": _inspect, "convert": _convert}
    if not words or words[0] not in commands:
        print(USAGE, file=sys.stderr)
        return 0 if words and words[0] in ("-h", "--help", "help") else 2
    try:
        commands[words[0]](*split_words(words[1:]))
    except GsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
