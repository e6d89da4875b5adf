"""What an iteration takes at least: a floor under every latency model, on which the bound's arguments rest.

Of an iteration with D decodes and p prefilled tokens (N = D + p) we use only this:

    iteration_s >= R(D, N) + d * (sum of the decodes' contexts) + sum over prefilled tokens of 2 e * position

    R(D, N) = dense[N] + extra[D]   if something is prefilled
    R(D, D) = pure[D]               if not

with ``e <= d / 2``. A prompt's token that is computed alone counts as a decode to the engine, and as a prefilled token
here: the smallest R over all such readings is taken (``Minorant.residual``), and its own price is the smaller one, so
the floor holds however prompts are cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, singledispatch

import numpy as np

from gsim.core import Batch, Chunk, ConfigError, LatencyModel
from gsim.core.view import Floats, Ints
from gsim.latency import ConstantTime, IterationGrid, OperatorModel, SoftRoofline


@dataclass(frozen=True)
class Extent:
    """The iterations that a floor has to hold for."""

    tokens: int
    """Tokens in an iteration, at most."""
    decodes: int
    """Sequences in an iteration, at most."""
    contexts: tuple[int, int]
    """Shortest and longest context of a decode."""


@dataclass(frozen=True)
class Minorant:
    """A proven lower limit of the iteration times of one latency model, in seconds."""

    extent: Extent
    dense_s: Floats
    """At 0, 1, ... ``extent.tokens`` tokens."""
    extra_s: Floats
    """At 0, 1, ... ``extent.decodes`` decodes, beside prefilled tokens."""
    pure_s: Floats
    """The same number of decodes alone (index 0 is unused)."""
    context_token_s: float = 0.0
    """d."""
    square_token_s: float = 0.0
    """e."""

    def at_speed(self, factor: float) -> Minorant:
        """The same floor on an instance whose iterations take ``1 / factor`` of their time."""
        return Minorant(
            self.extent,
            self.dense_s / factor,
            self.extra_s / factor,
            self.pure_s / factor,
            self.context_token_s / factor,
            self.square_token_s / factor,
        )

    def residual(self, decodes: tuple[Ints, Ints], tokens: tuple[Ints, Ints]) -> Floats:
        """The least R for ranges of decodes (rows) and of tokens (columns); each range from its low to its high.

        ``inf`` where a range has no batch: fewer tokens than decodes.
        """
        (d_low, _), (n_low, n_high) = decodes, tokens
        dense = np.minimum.reduceat(self.dense_s, n_low)
        pure = np.full(len(self.dense_s), np.inf)
        most = min(len(pure), len(self.pure_s))
        pure[1:most] = self.pure_s[1:most]
        alone = np.minimum.reduceat(pure, n_low)
        least = np.full((len(d_low), len(n_low)), np.inf)
        # Prefilled tokens may count as decodes to the engine, so any number of decodes up to the tokens counts.
        few = int(np.searchsorted(n_high, len(self.extra_s)))
        for column, last in enumerate(n_high[:few].tolist()):
            extra = np.minimum.accumulate(self.extra_s[last::-1])[::-1]
            rows = d_low <= last
            least[rows, column] = np.minimum(dense[column] + extra[d_low[rows]], alone[column])
        extra = np.minimum.accumulate(self.extra_s[::-1])[::-1]
        least[:, few:] = np.minimum(dense[None, few:] + extra[d_low][:, None], alone[None, few:])
        return least

    @cached_property
    def floor_s(self) -> Floats:
        """The least R by tokens, as the largest convex function below it whose ratio to the tokens never rises."""
        tokens = np.arange(1, self.extent.tokens + 1)
        least = self.residual((np.array([0]), np.array([self.extent.decodes])), (tokens, tokens))[0]
        return convex_floor(tokens.astype(np.float64), least, self.extent.tokens)

    @cached_property
    def decode_alone_s(self) -> float:
        """The least R of any iteration that decodes."""
        tokens = np.arange(1, self.extent.tokens + 1)
        one = (np.array([1]), np.array([self.extent.decodes]))
        return float(self.residual(one, (tokens, tokens)).min())


@singledispatch
def minorant(latency: LatencyModel, extent: Extent) -> Minorant:  # noqa: ARG001 (dispatched on the first)
    """The floor of a latency model for all iterations within ``extent``.

    Raises ``ConfigError`` for a kind of model that no floor is proven for: a bound that rests on a guess is none.
    """
    raise ConfigError(
        f"no lower limit is proven for latency models of kind {type(latency).__name__}; "
        f"the bound knows: {', '.join(sorted(kind.__name__ for kind in minorant.registry if kind is not object))}"
    )


@minorant.register
def _constant(latency: ConstantTime, extent: Extent) -> Minorant:
    same = latency.iteration_time_s
    return Minorant(
        extent, np.full(extent.tokens + 1, same), np.zeros(extent.decodes + 1), np.full(extent.decodes + 1, same)
    )


@minorant.register
def _roofline(latency: SoftRoofline, extent: Extent) -> Minorant:
    compute_s = latency.token_s * np.arange(extent.tokens + 1)
    high, low = np.maximum(compute_s, latency.weights_s), np.minimum(compute_s, latency.weights_s)
    dense_s: Floats = latency.overhead_s + high * (1.0 + (low / high) ** latency.sharpness) ** (1.0 / latency.sharpness)
    extra_s: Floats = latency.sequence_s * np.arange(extent.decodes + 1, dtype=np.float64)
    square_s = min(latency.square_token_s, latency.context_token_s / 2.0)
    decodes = np.minimum(np.arange(extent.decodes + 1), extent.tokens)
    pure_s: Floats = dense_s[decodes] + extra_s
    return Minorant(extent, dense_s, extra_s, pure_s, latency.context_token_s, square_s)


@minorant.register
def _grid(latency: IterationGrid, extent: Extent) -> Minorant:
    """Of a grid: times of pure decodes are linear in the mean context between the grid's contexts.

    With d times the decodes' contexts taken off, their least value lies at a grid context or at an end of the range;
    what a decode adds beside a prefill is the larger of 0 and such a line, whose least value over a piece is at least
    the larger of the two parts' least values.
    """
    low, high = 0, extent.contexts[1]
    knots = np.array(sorted({low, high, *(c for c in latency.decode_contexts if low < c < high)}))
    rows = [[_decode_s(latency, d, int(c)) for c in knots] for d in range(1, extent.decodes + 1)]
    times = np.array(rows).reshape(extent.decodes, len(knots))
    dense_s = (
        np.array([latency.iteration_s(Batch((Chunk(max(n, 1), 0),), 0, 0)) for n in range(extent.tokens + 1)])
        - latency.square_token_s * np.maximum(np.arange(extent.tokens + 1), 1) ** 2.0
    )
    count = np.arange(1, extent.decodes + 1)
    per_context = _context_token_s(latency, extent)
    own_s = per_context * count[:, None] * knots[None, :]
    pure = (times - own_s).min(axis=1)
    beyond = times - dense_s[np.minimum(count, extent.tokens)][:, None]
    extra = np.maximum(-own_s, beyond - own_s)
    if len(knots) > 1:
        least = np.minimum((beyond - own_s)[:, :-1], (beyond - own_s)[:, 1:])
        extra = np.maximum(-own_s[:, 1:], least)
    square_s = latency.square_token_s if len(latency.prefill_contexts) == 1 else 0.0
    return Minorant(
        extent,
        dense_s,
        np.append(0.0, extra.min(axis=1)),
        np.append(np.inf, pure),
        per_context,
        min(square_s, per_context / 2.0),
    )


@minorant.register
def _operator(latency: OperatorModel, extent: Extent) -> Minorant:
    """Of operator tables: everything but attention, which only adds (loose where contexts are long).

    Pure decodes are linear in the mean context between the table's contexts, and a skew of contexts weighs the mean
    with the longest; so they take at least what their best context takes.
    """
    head_s = np.array([latency._head_s[d] for d in range(extent.decodes + 1)])
    dense_s = np.array([latency._dense_s[n] for n in range(extent.tokens + 1)])
    pure = dense_s[np.minimum(np.arange(extent.decodes + 1), extent.tokens)] + head_s
    alpha = latency.tables.alpha
    if alpha.min() >= 0.0 and alpha.max() <= 1.0:
        high = extent.contexts[1]
        knots = sorted({0, high, *(c for c in latency.tables.decode_contexts if c < high)})
        for d in range(1, extent.decodes + 1):
            pure[d] = min(latency.iteration_s(Batch((), d, d * int(c), int(c))) for c in knots)
    return Minorant(extent, dense_s, head_s, pure)


def _decode_s(latency: IterationGrid, decodes: int, context: int) -> float:
    return latency.iteration_s(Batch((), decodes, decodes * context, context))


def _context_token_s(latency: IterationGrid, extent: Extent) -> float:
    """What a token of context costs in large batches, between the run's contexts: any choice is valid."""
    low, high = extent.contexts
    high = max(high, low + 1)
    batches = [d for d in latency.decode_batches if extent.decodes / 8 <= d <= extent.decodes] or [extent.decodes]
    rises = [(_decode_s(latency, d, high) - _decode_s(latency, d, low)) / (d * (high - low)) for d in batches]
    return max(0.0, min(rises))


def convex_floor(tokens: Floats, seconds: Floats, max_tokens: int) -> Floats:
    """The largest F of the module's shape below the points (``tokens``, ``seconds``), at 0 ... ``max_tokens``.

    ``tokens`` ascends. For a table that is interpolated linearly between its points, what lies below the points lies
    below the table. Before the first point the first value holds (a shorter iteration is not assumed to be faster
    than the table says), beyond the last one the last slope of the floor.
    """
    knots = _lower_hull(np.concatenate(([0.0], tokens)), np.concatenate(([max(0.0, seconds[0])], seconds)))
    x, y = knots
    # Nondecreasing: whatever falls is cut to the lowest value after it (a minorant may be lowered anywhere).
    y = np.minimum.accumulate(y[::-1])[::-1]
    x, y = _lower_hull(x, y)
    # Where the ratio y / x is least, the tangent goes through the origin; from there on F follows that ray.
    if len(x) > 1:
        ratio = y[1:] / x[1:]
        best = int(np.argmin(ratio)) + 1
        x, y = x[: best + 1], y[: best + 1]
    grid = np.arange(max_tokens + 1, dtype=np.float64)
    inside = np.interp(grid, x, y)
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2]) if len(x) > 1 else 0.0
    return np.where(grid > x[-1], y[-1] + slope * (grid - x[-1]), inside)


def _lower_hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The lower convex hull of points with ascending x (equal x: the lowest point counts)."""
    hull: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist()):
        if hull and point[0] == hull[-1][0]:
            if point[1] >= hull[-1][1]:
                continue
            hull.pop()
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    corners = np.array(hull, dtype=np.float64)
    return corners[:, 0], corners[:, 1]


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def lower_hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The corners of the lower convex hull of points with ascending x."""
    return _lower_hull(x, y)
