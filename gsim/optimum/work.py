"""The least that each request must take of an instance if it is to be good there: seconds, token-seconds, iterations.

Every figure holds for all schedules of the simulator's engines. What they share and what is used here: iterations of
an instance do not overlap; a request computes each of its prompt tokens that no cache holds, then one token per
iteration it takes part in; a good request does all that between its arrival and its deadline, on the instance where
it is counted; an iteration takes at least what the ``Minorant`` says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gsim.core.view import Bools, Floats, Ints
from gsim.optimum.demand import Demand
from gsim.optimum.minorant import Extent, Minorant, minorant
from gsim.optimum.price import Crowd, Price, prices
from gsim.optimum.server import Server

#: Weights of a decode against a prefilled token; each gives cuts of its own, all of them valid.
RHOS = (1.0, 1.5, 2.5)
#: How much a whole KV cache counts against the time itself, in the cuts that price both.
KV_WEIGHTS = (0.5, 2.0)
_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True)
class Family:
    """One kind of cut: a request's least use of a resource of which a second of a window has ``rate`` units."""

    name: str
    prefill: Floats
    """Per request, in units of the resource: what its prompt takes."""
    decode: Floats
    """What its output takes."""
    rate: float

    @property
    def use(self) -> Floats:
        """Both together."""
        return self.prefill + self.decode


@dataclass(frozen=True)
class Work:
    """What the jobs ask of one kind of instance."""

    floor: Minorant
    fits: Bools
    """The request's tokens fit into the instance's KV and ``max_model_len``."""
    prefill_s: Floats
    """The prompt alone on the idle instance, with every shareable prefix cached."""
    token_s: tuple[Floats, Floats]
    """An output token alone on the idle instance, at the request's first context, and on average."""
    output_tokens: Ints
    families: tuple[Family, ...]
    iterations: Ints
    """Iterations that a good request takes part in, at least."""
    own_s: Floats
    """What its tokens cost on top of the dense part, whatever else is in their batches."""


@dataclass(frozen=True)
class _Shape:
    """Arrays per request that several families need."""

    tokens: Ints
    """Computed as prompt."""
    unshared: Ints
    """Of the prompt's KV, what no other request could hold for it."""
    chunks: Ints
    decodes: Ints
    prompt: Ints
    prefill_s: Floats
    """The prompt alone."""
    square_s: Floats
    """Own cost of the prompt's tokens."""
    decode_own_s: Floats
    """Own cost of the decodes."""
    decode_alone_s: Floats
    mean_s: Floats
    """Mean iteration that its decodes can afford."""
    longest_s: Floats
    """Longest iteration that its prefill can afford."""
    recomputes: bool
    """A token may come out of a recomputed prefill (preemption, a move) instead of a decode."""


def work(jobs: Demand, server: Server, max_moves: int = 0) -> Work:
    """The least use of ``server`` by each job, if the job is good there.

    **Prefill.** Of a prompt of P tokens at most ``hit`` come out of the prefix cache: full blocks that another job's
    prompt and output also begin with, and never the last token. The other P - hit tokens are computed, at position
    hit or later. Preemption and retries only add tokens.

    **Decode.** The first output token comes with the last prefilled one; the other L - 1 take an iteration each, at
    contexts P, P + 1, ... Contexts cannot be shorter: a request that moved brings its tokens along. A preempted
    request is prefilled again and gets its next token from that; where the KV could run out, the cheaper of the two
    ways is charged, and batches without any decode count, too.

    **Alone.** A prompt in k chunks takes at least k iterations of (P - hit) / k tokens (F is convex), and k is at
    least (P - hit) / max_num_batched_tokens; F(N) is least for the request's own tokens. Nobody finishes earlier.

    **Seconds** (one family per rho): the payments of ``Price``. The request's decode iterations do not overlap its
    prefill, so they have a mean length of at most (slo - prefill) / (L - 1); a decode whose context exceeds the run's
    shortest prompt leaves that much less of the iteration to others, which the price is told.

    **Sequence-seconds**: it is one of at most ``max_num_seqs`` sequences in each of its iterations, each at least as
    long as if it were alone.

    **KV token-seconds**: during an iteration its KV is in memory; blocks that others may share are not counted (they
    could be held once for all), the others are its own. The mixed families add payments and KV, for batches cannot be
    both large and short: per token, the least of payment plus weighted context times iteration length.

    **Moves.** A request that moves has its prompt and its output computed anywhere, in parts. A part is only charged
    what its tokens cost in the largest batch that the instance can run (no mean length is known) and at the request's
    shortest context. Every move may bring one token as the last one of a prefill instead of a decode; so many are
    charged as prefilled ones. What moving itself costs is not charged.
    """
    # A sequence ends at max_model_len, whatever it had left to say.
    most = np.maximum(server.max_model_len - jobs.prompt_tokens, 1)
    jobs = replace(jobs, output_tokens=np.minimum(jobs.output_tokens, most))
    hit = _hits(jobs, server)
    floor = minorant(server.latency, _extent(jobs, server, hit)).at_speed(server.speed)
    shape = _shape(jobs, server, floor, hit, max_moves)
    alone_s = _alone_s(jobs, floor, shape)
    fits = jobs.prompt_tokens < server.max_model_len
    fits &= jobs.prompt_tokens + jobs.output_tokens - 1 <= server.kv_tokens
    hopeless = shape.prefill_s + (jobs.output_tokens - 1) * alone_s[1] > jobs.slo_s * _ROUNDING
    crowd = _crowd(jobs, fits if max_moves else fits & ~hopeless)
    return Work(
        floor,
        fits,
        shape.prefill_s,
        alone_s,
        jobs.output_tokens,
        tuple(_families(server, floor, shape, crowd)),
        shape.chunks + shape.decodes,
        shape.square_s + shape.decode_own_s,
    )


def _extent(jobs: Demand, server: Server, hit: Ints) -> Extent:
    """The iterations that good requests can be part of: more sequences than the KV holds cannot decode at once."""
    unshared = int((jobs.prompt_tokens - hit).min())
    decodes = max(1, min(server.max_num_seqs, server.kv_tokens // unshared, server.max_num_batched_tokens))
    longest = int((jobs.prompt_tokens + jobs.output_tokens).max())
    contexts = (int(jobs.prompt_tokens.min()), min(longest, server.max_model_len))
    return Extent(server.max_num_batched_tokens, decodes, contexts)


def _shape(jobs: Demand, server: Server, floor: Minorant, hit: Ints, max_moves: int) -> _Shape:
    prompt = jobs.prompt_tokens
    tokens = unshared = prompt - hit
    chunks = -(-tokens // server.max_num_batched_tokens)
    decodes = np.maximum(jobs.output_tokens - 1 - max_moves, 0)
    square_s = floor.square_token_s * (prompt * (prompt - 1.0) - hit * (hit - 1.0))
    prefill_s = chunks * floor.floor_s[tokens // chunks]
    recomputes = _preempts(jobs, server)
    if max_moves:
        tokens = tokens + (jobs.output_tokens - 1 - decodes)
        contexts = decodes * prompt.astype(np.float64)
        square_s = 0.0 * square_s
    else:
        prefill_s = prefill_s + square_s
        contexts = decodes * prompt + decodes * (decodes - 1) / 2.0
    own_s = floor.context_token_s * contexts
    # A recomputed prefill may yield a token without a decode's own cost.
    alone_s = decodes * floor.floor_s[1] if recomputes else decodes * floor.decode_alone_s + own_s
    if max_moves:
        mean_s = longest_s = np.full(len(jobs), np.inf)
    else:
        mean_s = (jobs.slo_s * _ROUNDING - prefill_s) / np.maximum(decodes, 1)
        if not recomputes:
            mean_s = mean_s - floor.context_token_s * (prompt + np.maximum(decodes - 1, 0) / 2.0 - prompt.min())
        longest_s = jobs.slo_s * _ROUNDING - alone_s
    return _Shape(
        tokens, unshared, chunks, decodes, prompt, prefill_s, square_s, own_s, alone_s, mean_s, longest_s, recomputes
    )


def _crowd(jobs: Demand, possible: Bools) -> Crowd:
    """The most requests and tokens whose spans from arrival to deadline share a moment."""
    some = np.flatnonzero(possible & jobs.fixed)
    if not len(some):
        return Crowd(1, 1)
    times = np.concatenate((jobs.arrival_s[some], jobs.deadline_s[some]))
    tokens = jobs.prompt_tokens[some] + jobs.output_tokens[some]
    # Where one arrives at another's deadline, both count: arrivals come first.
    order = np.lexsort((np.repeat((0, 1), len(some)), times))
    requests = np.cumsum(np.repeat((1, -1), len(some))[order])
    return Crowd(int(requests.max()), int(np.cumsum(np.concatenate((tokens, -tokens))[order]).max()))


def _preempts(jobs: Demand, server: Server) -> bool:
    """Whether the KV of as many requests as can run at once may not fit: else nothing is ever preempted."""
    blocks = np.sort(-(-(jobs.prompt_tokens + jobs.output_tokens) // server.block_size))
    most = int(blocks[-server.max_num_seqs :].sum()) * server.block_size
    return most > server.kv_tokens


def _hits(jobs: Demand, server: Server) -> Ints:
    """Prompt tokens that the instance's prefix cache could hold: full blocks, not the last token."""
    if not server.prefix_caching:
        return np.zeros(len(jobs), dtype=np.int64)
    most = np.minimum(jobs.shared_tokens, jobs.prompt_tokens - 1)
    hits: Ints = most // server.block_size * server.block_size
    return hits


def _families(server: Server, floor: Minorant, shape: _Shape, crowd: Crowd) -> list[Family]:
    families = []
    levels = prices(floor, RHOS, crowd)
    for p in levels:
        prefill = shape.square_s + shape.tokens * p.prefill(shape.longest_s)
        decode = _own_s(floor, p, shape) + shape.decodes * p.decode(shape.mean_s)
        families.append(Family(f"seconds, rho={p.rho:g}", prefill, decode, 1.0))
    families.append(
        Family("sequence-seconds", shape.chunks * floor.floor_s[1], shape.decode_alone_s, float(server.max_num_seqs))
    )
    return families + _kv_families(server, floor, levels, shape)


def _alone_s(jobs: Demand, floor: Minorant, shape: _Shape) -> tuple[Floats, Floats]:
    """Seconds per output token on the idle instance, at the first context and averaged over all.

    A token that comes out of a recomputed prefill takes two iterations at least: the one that preempted the request
    (it is not part of it), and the one that computes the token.
    """
    first_s: Floats = floor.decode_alone_s + floor.context_token_s * jobs.prompt_tokens.astype(np.float64)
    rises: Floats = floor.context_token_s * np.maximum(jobs.output_tokens - 2.0, 0.0)
    if not shape.recomputes:
        middle_s: Floats = first_s + rises / 2.0
        return first_s, middle_s
    again_s = 2.0 * float(floor.floor_s[1])
    # The smaller of a line and a constant is concave in the context: the ends' mean is below its mean.
    first: Floats = np.minimum(first_s, again_s)
    mean: Floats = (first + np.minimum(first_s + rises, again_s)) / 2.0
    return first, mean


def _own_s(floor: Minorant, price: Price, shape: _Shape) -> Floats:
    """Least own payment of a request's decodes; where tokens may be recomputed, that of either way to get one.

    A recomputed prefill that yields a token and is no decode to the engine has 2 tokens or more; what it pays beyond
    one decode's share is at least 2 - rho prefilled tokens' shares, and 4 e per token of context.
    """
    if not shape.recomputes:
        return shape.decode_own_s
    spare_s = (2.0 - price.rho) * price.prefill_price_s[-1] * shape.decodes
    cheaper = 4.0 * floor.square_token_s / floor.context_token_s if floor.context_token_s else 0.0
    own_s: Floats = np.minimum(shape.decode_own_s, spare_s + min(1.0, cheaper) * shape.decode_own_s)
    return own_s


def _kv_families(server: Server, floor: Minorant, levels: list[Price], shape: _Shape) -> list[Family]:
    decodes = shape.decodes
    least: Floats = shape.unshared.astype(np.float64)
    # Without a mean length (a request that may move) contexts are not known to grow on this instance.
    growth: Floats = np.where(np.isfinite(shape.mean_s), np.maximum(decodes - 1, 0), 0)
    alone_s = np.full(len(decodes), floor.floor_s[1])
    if not shape.recomputes:
        alone_s = floor.decode_alone_s + floor.context_token_s * shape.prompt
    held = decodes * (least + growth / 2.0)
    nothing = np.zeros(len(decodes))
    families = [Family("KV token-seconds", nothing, held * alone_s, float(server.kv_tokens))]
    for weight in KV_WEIGHTS:
        per_token = weight / server.kv_tokens
        for p in levels[:2]:
            # The least payment is concave in the context: over contexts that rise by 1, the ends' mean is below it.
            slopes: Floats = per_token * np.stack([least, least + growth])
            ends = p.tilted(slopes[0]) + p.tilted(slopes[1])
            prefill = shape.square_s + shape.tokens * p.prefill(shape.longest_s)
            decode = _own_s(floor, p, shape) + decodes * ends / 2.0
            families.append(Family(f"seconds and {weight:g} KV, rho={p.rho:g}", prefill, decode, 1.0 + weight))
    return families


def eligible(jobs: Demand, works: list[Work], max_moves: int = 0) -> Bools:
    """Which job could meet its deadline on which kind of instance, alone there: an array (jobs, kinds).

    With moves, each part of a request may run where it is fastest: the fastest prefill, and for every token the
    fastest decode at the shortest context. A kind is then eligible if the request fits there and the whole could be
    done in time.
    """
    most_s = jobs.slo_s * _ROUNDING
    fits: Bools = np.stack([work.fits for work in works], axis=1)
    if not max_moves:
        alone = [w.prefill_s + (w.output_tokens - 1) * w.token_s[1] for w in works]
        in_time: Bools = np.stack(alone, axis=1) <= most_s[:, None]
        return fits & in_time
    decodes = np.min([w.output_tokens for w in works], axis=0) - 1
    kept = np.maximum(decodes - max_moves, 0)
    first = np.min([w.token_s[0] for w in works], axis=0)
    prefill = np.min([w.prefill_s for w in works], axis=0)
    least_token_s = min(float(w.floor.floor_s[1]) for w in works)
    fastest = prefill + kept * first + (decodes - kept) * least_token_s
    soon: Bools = (fastest <= most_s)[:, None]
    return fits & soon
