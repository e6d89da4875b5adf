"""A roofline for cards without public kernel tables: data-sheet numbers times what serving reaches of them."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core.errors import ProfileError
from gsim.latency.cards import Card
from gsim.latency.communication import all_reduces
from gsim.latency.deployment import WEIGHT_BYTES, Deployment
from gsim.profile.engines import EngineTime

#: Card -> share of the memory bandwidth that a decode of one sequence reaches, and of the dense peak that a prompt of
#: 1,024 tokens reaches, measured for 7B and 8B models: Helix (V100, T4, L4), Vidur (A40, A100), aiconfigurator-core
#: (H100, L40S), LLM-Inference-Bench (MI300X decode; its prefill is not usable: 0.4 assumed).
REACHED = {
    "V100-32G": (0.69, 0.72),
    "T4": (0.74, 0.36),
    "L4": (0.80, 0.37),
    "A40": (0.73, 0.63),
    "A100-80G": (0.65, 0.65),
    "A800-80G": (0.65, 0.65),
    "L40S": (0.78, 0.58),
    "H100-80G": (0.68, 0.65),
    "H800-80G": (0.68, 0.65),
    "H200-141G": (0.60, 0.70),
    "MI300X": (0.33, 0.40),
}
#: Card -> cards -> seconds of a small all-reduce, bytes per second: measured with NCCL, Vidur's network tables.
ALL_REDUCE = {
    "V100-32G": {2: (57e-6, 41.6e9), 4: (58e-6, 51.1e9), 8: (60e-6, 74.4e9)},
    "A40": {2: (91e-6, 45.5e9), 4: (98e-6, 38.0e9), 8: (68e-6, 14.9e9)},
    "L4": {2: (37e-6, 4.0e9), 4: (57e-6, 3.6e9), 8: (57e-6, 2.1e9)},
    "L40S": {2: (39e-6, 4.0e9), 4: (57e-6, 3.6e9), 8: (69e-6, 2.1e9)},
    "A100-80G": {2: (36e-6, 171e9), 4: (27e-6, 126e9), 8: (34e-6, 109e9)},
    "H100-80G": {2: (7e-6, 293e9), 4: (38e-6, 229e9), 8: (26e-6, 214e9)},
}


@dataclass(frozen=True)
class Estimate:
    """Coefficients of a soft roofline, and where they come from."""

    coefficients_ms: dict[str, float]
    basis: str
    uncertainty: str


def estimate(deployment: Deployment, sheet: Card, loop: EngineTime) -> Estimate:
    """The roofline of a deployment; raises ``ProfileError`` where a coefficient has no source."""
    model, tp = deployment.model, deployment.tp
    if sheet.name not in REACHED:
        raise ProfileError(
            f"kind=roofline: nobody measured what serving reaches of a {sheet.name}; known: {', '.join(REACHED)}"
        )
    if model.experts is not None:
        raise ProfileError("kind=roofline: how many experts a batch reads is not in a data sheet; there must be tables")
    if WEIGHT_BYTES[deployment.weight_dtype] < 2.0 and not (deployment.weight_dtype == "fp8" and sheet.fp8_tflops):
        raise ProfileError(
            f"kind=roofline: what {deployment.weight_dtype} kernels reach of a {sheet.name} has no source; 16 bit has"
        )
    read, computed = REACHED[sheet.name]
    flops = computed * tp * 1e12 * (sheet.fp8_tflops if deployment.weight_dtype == "fp8" else sheet.tflops)
    bytes_per_s = read * sheet.bandwidth_gb_per_s * 1e9
    # The embedding is looked up, not multiplied; the head is multiplied once a sequence.
    dense = model.parameters - model.embedding_parameters
    overhead_s, token_s = loop.overhead_s, 2.0 * dense / flops
    basis = (
        f"{read:.0%} of {sheet.bandwidth_gb_per_s:g} GB/s and {computed:.0%} of {sheet.tflops:g} TFLOPS per card, as "
        f"7B and 8B models reach there; {loop.overhead_s * 1e3:g} ms per iteration of engine overhead ({loop.evidence})"
    )
    if tp > 1:
        known = ALL_REDUCE.get(sheet.name, {})
        if tp not in known:
            raise ProfileError(
                f"kind=roofline: nobody measured an all-reduce of {tp} x {sheet.name}; known: "
                f"{', '.join(f'{n} x {name}' for name, by in ALL_REDUCE.items() for n in by)}"
            )
        messages = all_reduces(model.layers, tp)
        latency_s, rate = known[tp]
        overhead_s += messages * latency_s
        token_s += messages * 2.0 * model.hidden / rate
        basis += (
            f"; {messages} all-reduces of {latency_s * 1e6:.0f} us and {rate / 1e9:.0f} GB/s (NCCL, Vidur's tables)"
        )
    kv_bytes = deployment.kv_bytes_per_token / tp
    coefficients = {
        "overhead_ms": overhead_s * 1e3,
        "weights_ms": deployment.weight_bytes_per_card / bytes_per_s * 1e3,
        "token_ms": token_s * 1e3,
        "sharpness": 2.0,
        "sequence_ms": 0.02 + loop.sequence_s * 1e3,
        "context_token_ms": kv_bytes / (0.8 * sheet.bandwidth_gb_per_s * 1e9) * 1e3,
        # A chunk attends to half its square: two products of heads x head size, two operations each.
        "square_token_ms": 2.0 * model.layers * model.heads * model.head_dim / (0.5 * flops / computed) * 1e3,
    }
    return Estimate(
        coefficients, basis, "+-25 % for 7B to 70B dense models in 16 bit; several cards over PCIe: no claim"
    )
