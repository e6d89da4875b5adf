"""A profile: a deployment's measured latency, with its limits, its price and where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core.batch import Batch, Chunk
from gsim.core.errors import ProfileError
from gsim.core.protocols import LatencyModel
from gsim.core.view import FULL_SEQUENCES, REFERENCE_CONTEXT_TOKENS, REFERENCE_SEQUENCES
from gsim.latency.constant import ConstantTime
from gsim.latency.deployment import Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.models import ModelShape
from gsim.latency.models.find import model_shape


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a profile's numbers come from and how far to trust them."""

    source: str
    """Publication, repository or machine."""
    basis: str
    """What was measured and what was derived."""
    engine_version: str
    """The serving engine (and version) that was timed."""
    date: str
    licence: str
    """Licence of the source."""
    uncertainty: str
    """Stated trust, in words or percent."""


@dataclass(frozen=True)
class Profile:
    """Measured latency of a deployment, with the limits of one instance of it."""

    name: str
    deployment: Deployment
    latency: LatencyModel
    kv_tokens: int
    """KV capacity of one instance (tokens)."""
    max_num_batched_tokens: int
    """vLLM's default for this class of GPU: tokens computed in one iteration at most."""
    max_num_seqs: int
    """vLLM's default for this class of GPU: sequences in a batch at most."""
    max_model_len: int
    """Longest sequence (prompt and output) that an instance takes."""
    price_per_hour: float
    """USD per hour of one instance: of all its cards."""
    provenance: Provenance
    domain: Domain
    price_source: str = ""
    """Where the price comes from, or that it is an assumption."""
    layout: str = ""
    """KV layout: KV can be copied only between instances of equal layout. Empty: the deployment's."""

    def __post_init__(self) -> None:
        if not self.layout:
            object.__setattr__(self, "layout", self.deployment.layout)
        for field in ("kv_tokens", "max_num_batched_tokens", "max_num_seqs", "max_model_len"):
            if getattr(self, field) < 1:
                raise ProfileError(f"{self.name}: {field} must be at least 1, not {getattr(self, field)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ProfileError(
                f"{self.name}: max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}), as vLLM requires"
            )
        if not self.price_per_hour >= 0.0:
            raise ProfileError(f"{self.name}: price_per_hour must be 0 or more, not {self.price_per_hour}")
        for field, asked, limit in (
            ("max_num_seqs", self.max_num_seqs, self.domain.limit.sequences),
            ("max_num_batched_tokens", self.max_num_batched_tokens, self.domain.limit.batch_tokens),
            ("max_model_len", self.max_model_len, self.domain.limit.context_tokens),
        ):
            if asked > limit:
                raise ProfileError(
                    f"{self.name}: {field} ({asked}) is beyond the profile's domain, which ends at {limit}"
                )

    @property
    def gpu(self) -> str:
        """The card's name."""
        return self.deployment.card

    @property
    def model(self) -> ModelShape:
        """The model that is served."""
        return self.deployment.model

    @property
    def nominal_tpot_s(self) -> float:
        """Decode seconds per token and sequence at ``REFERENCE_SEQUENCES`` (or what fits)."""
        return self._decode_s(self._fitting(REFERENCE_SEQUENCES))

    @property
    def nominal_prefill_s_per_token(self) -> float:
        """Prefill seconds per token of one prompt of ``REFERENCE_CONTEXT_TOKENS`` alone."""
        return prefill_s(self, REFERENCE_CONTEXT_TOKENS) / REFERENCE_CONTEXT_TOKENS

    @property
    def nominal_tokens_per_s(self) -> float:
        """Decode throughput at ``FULL_SEQUENCES`` (or what fits), in tokens per second."""
        sequences = self._fitting(FULL_SEQUENCES)
        return sequences / self._decode_s(sequences)

    def _fitting(self, sequences: int) -> int:
        return max(1, min(sequences, self.max_num_seqs, self.kv_tokens // REFERENCE_CONTEXT_TOKENS))

    def _decode_s(self, sequences: int) -> float:
        """Seconds of an iteration that decodes so many sequences of the reference context."""
        context = REFERENCE_CONTEXT_TOKENS
        return self.latency.iteration_s(Batch((), sequences, context * sequences, context))


def prefill_s(profile: Profile, prompt_tokens: int, cached_tokens: int = 0) -> float:
    """Seconds from the start of a prompt's prefill to its first token, on an otherwise idle instance.

    The prompt runs in chunks of ``max_num_batched_tokens``; ``cached_tokens`` of it have their KV already.
    """
    total_s = 0.0
    done = cached_tokens
    while done < prompt_tokens:
        tokens = min(prompt_tokens - done, profile.max_num_batched_tokens)
        # A sequence that computes a single token counts as a decode.
        batch = Batch((), 1, done, done) if tokens == 1 else Batch((Chunk(tokens, done),), 0, 0, 0)
        total_s += profile.latency.iteration_s(batch)
        done += tokens
    return total_s


def unloaded_latency_s(profile: Profile, prompt_tokens: int, output_tokens: int) -> float:
    """End-to-end seconds of a request that has an idle instance for itself: its prefill, then its decode run."""
    if prompt_tokens < 1 or output_tokens < 1:
        raise ValueError(f"prompt_tokens and output_tokens must be at least 1, not {prompt_tokens} and {output_tokens}")
    first_token_s = prefill_s(profile, prompt_tokens)
    return first_token_s + profile.latency.decode_run_s(1, prompt_tokens, prompt_tokens, output_tokens - 1)


def constant_profile(
    iteration_s: float,
    *,
    kv_tokens: int = 1 << 30,
    max_num_seqs: int = 256,
    max_num_batched_tokens: int = 8192,
    max_model_len: int = 1 << 20,
    name: str = "constant",
    deployment: Deployment | None = None,
) -> Profile:
    """A profile whose iterations all take ``iteration_s``: what queueing theory can be compared with.

    ``deployment`` says how large its KV is (by default that of an 8B model on one card).
    """
    extent = Extent(max_num_seqs, max_num_batched_tokens, max_model_len)
    return Profile(
        name=name,
        deployment=deployment or Deployment(model_shape("llama-3.1-8b"), "constant"),
        layout="" if deployment else "constant",
        latency=ConstantTime(iteration_s),
        kv_tokens=kv_tokens,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        price_per_hour=0.0,
        provenance=Provenance("none", "assumed: every iteration takes the same time", "none", "none", "none", "exact"),
        domain=Domain(extent, extent, name),
    )
