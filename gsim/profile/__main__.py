"""Profiles from the command line.

    python -m gsim.profile build model=NAME gpu=CARD [tp=4] [dtype=fp8] [kind=tables|roofline] [tables=DIR] [out=PLACE]
    python -m gsim.profile build model=NAME gpu=h100,h200 tp=2,4        every combination
    python -m gsim.profile check profile=NAME bench="[a.json,b.json,c.json]" [out=FILE.yaml]
    python -m gsim.profile show NAME                 its deployment, its limits and what its iterations take

``build`` writes NAME.yaml into ``out`` (by default ./profiles, where profiles are found by name), or the file ``out``
where that ends in .yaml; of several, those that cannot be built are told, and the others are built. ``check`` replays
results of ``vllm bench serve --save-result --save-detailed``: one factor on iterations and one constant per request are
fitted to the first two, the others judge; ``out`` takes the profile with that factor.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsim.core import Batch, Chunk
from gsim.core.errors import ConfigError, GsimError
from gsim.core.files import write_whole
from gsim.core.options import read_options
from gsim.latency import load_profile
from gsim.profile.build import BuildOptions, build_profile
from gsim.profile.factor import profile_file, with_factor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0 if words else 2
    try:
        if words[0] == "build":
            return _build_all(words[1:])
        if words[0] == "check":
            print(check(words[1:]))
        elif words[0] == "show":
            print(show(words[1:]))
        else:
            raise ConfigError(f"'{words[0]}' is no command; there are: build, check, show")
    except GsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True)
class _Build(BuildOptions):
    out: str = "profiles"
    """Folder that the profile is written into, or the file where it ends in .yaml."""


def _build_all(words: Sequence[str]) -> int:
    """Build every combination of the values given; the exit status: 1 where one of them could not be built."""
    asked = combinations(words)
    if len(asked) > 1 and any(word.startswith("out=") and word.endswith(".yaml") for word in words):
        raise ConfigError("out: several profiles go into a folder, not into one file")
    refused = 0
    for one in asked:
        try:
            print(build(one))
        except GsimError as error:
            refused += 1
            which = f"{' '.join(one)}: " if len(asked) > 1 else ""
            print(f"error: {which}{error}", file=sys.stderr)
    return min(refused, 1)


def combinations(words: Sequence[str]) -> list[list[str]]:
    """Every combination of ``key=a,b`` words, the last key changing fastest; commas in folders' names part nothing."""
    return [list(picked) for picked in itertools.product(*map(_values, words))]


def _values(word: str) -> list[str]:
    """A word for each of its values."""
    key, said, values = word.partition("=")
    return [word] if not said or key in ("out", "tables") else [f"{key}={value}" for value in values.split(",")]


def build(words: Sequence[str]) -> str:
    """Write a profile; what was written, in a line."""
    options = read_options(_Build, words)
    name, text = build_profile(options)
    place = Path(options.out)
    file = place if place.suffix == ".yaml" else place / f"{name}.yaml"
    _write(file, text)
    profile = load_profile(file)
    what = f"{profile.deployment.cards} x {profile.gpu}, {profile.kv_tokens:,} KV tokens"
    return f"wrote {file}: {what}; {profile.provenance.uncertainty}"


@dataclass(frozen=True)
class _Check:
    profile: str
    """Name or path."""
    bench: tuple[str, ...]
    """Results of ``vllm bench serve``: two that fit, then those that judge."""
    out: str | None = None
    """YAML file for the profile with the factor."""


def check(words: Sequence[str]) -> str:
    """Hold a profile against benchmarks of a live server; the figures as a table."""
    from gsim.validation.profile_check import check_profile

    options = read_options(_Check, words)
    file = None if options.out is None else profile_file(options.profile)
    found = check_profile(load_profile(options.profile), options.bench)
    if file is None or options.out is None:
        return str(found)
    out = Path(options.out)
    why = f"fitted to {options.bench[0]} and {options.bench[1]} (python -m gsim.profile check)"
    _write(out, with_factor(file, found.factor, out.stem, why))
    return f"{found}\n\nwrote {out}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error}") from None


def show(words: Sequence[str]) -> str:
    """Deployment, limits and iteration times of a profile, as a table."""
    if len(words) != 1:
        raise ConfigError("show takes one profile: its name or a path")
    profile = load_profile(words[0])
    deployment, limit = profile.deployment, profile.domain.limit
    lines = [
        f"{profile.name}: {deployment.model.name} on {deployment.cards} x {deployment.card}, "
        f"weights {deployment.weight_dtype} ({deployment.weight_bytes_per_card / 1e9:.1f} GB a card), "
        f"KV {deployment.kv_dtype}",
        f"{profile.kv_tokens:,} KV tokens of {deployment.kv_bytes_per_token / 1024:g} KiB; "
        f"{profile.price_per_hour:g} USD/h",
        f"source: {profile.provenance.source}; uncertainty: {profile.provenance.uncertainty}",
        "",
        "decode iteration, ms, by sequences and context",
    ]
    contexts = [c for c in (128, 1024, 4096, 16384, 65536) if c <= limit.context_tokens]
    lines.append("".join([f"{'':>8}", *(f"{c:>10,}" for c in contexts)]))
    for n in (1, 4, 16, 64, 256):
        if n <= profile.max_num_seqs:
            fits = [n * c <= profile.kv_tokens for c in contexts]
            times = [1e3 * profile.latency.iteration_s(Batch((), n, n * c, c)) for c in contexts]
            cells = [f"{t:>10.2f}" if fit else f"{'-':>10}" for t, fit in zip(times, fits)]
            lines.append("".join([f"{n:>8}", *cells]))
    lines += ["", "prefill of one prompt, ms, by tokens"]
    sizes = [t for t in (128, 512, 2048, 8192) if t <= profile.max_num_batched_tokens]
    lines.append("".join(f"{t:>10,}" for t in sizes))
    lines.append("".join(f"{1e3 * profile.latency.iteration_s(Batch((Chunk(t, 0),), 0, 0, 0)):>10.2f}" for t in sizes))
    measured = profile.domain.measured
    lines.append(
        f"domain: measured to {measured.sequences} sequences, {measured.batch_tokens:,} tokens, context "
        f"{measured.context_tokens:,}; refused beyond {limit.sequences}, {limit.batch_tokens:,}, "
        f"{limit.context_tokens:,}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
