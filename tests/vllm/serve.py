"""Start a vLLM server on the CPU with a small Llama of random weights, for calibration against a real engine.

    python tests/vllm/serve.py [port=8021] [layers=8] [hidden=512] [max_model_len=2048] [folder=DIR] [log=FILE]
                               [tokenizer=1]
    python tests/vllm/serve.py flags          print the server's limits, as calibration is to keep them

Run it with the interpreter of an environment that holds vLLM (``tests/vllm/run.sh`` makes one). Only a ``config.json``
is written: weights are drawn at random (``--load-format dummy``) and no tokenizer is read, so nothing is downloaded.
``tokenizer=1`` writes one (bytes and pairs of ASCII letters), so that answers have text, with characters that are cut.
The engine computes on core 0, its API server runs on the last core beside the client: the two do not take turns on
one core while an iteration is being timed. The process prints ``ready PID`` when the server answers, and
ends the server when it is ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

DEFAULTS = {
    "port": "8021",
    "layers": "8",
    "hidden": "512",
    "max_model_len": "2048",
    "max_num_batched_tokens": "512",
    "max_num_seqs": "64",
    "kv_blocks": "1024",
    "timeout_s": "400",
    "folder": "",
    "log": "",
    "tokenizer": "",
}
VOCABULARY = 4096


def model_config(layers: int, hidden: int, max_model_len: int) -> dict[str, object]:
    """A Llama of ``layers`` x ``hidden``: heads of 64, one KV head for every two heads, a small vocabulary."""
    heads = hidden // 64
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "head_dim": 64,
        "max_position_embeddings": max_model_len,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE: three control tokens, every byte, then pairs of printable ASCII letters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    pairs = [(a, b) for a in letters[:94] for b in letters[:94]][: VOCABULARY - 3 - len(letters)]
    control = ["<pad>", "<s>", "</s>"]
    words = [*control, *letters, *(a + b for a, b in pairs)]
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [
                    {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False}
                    | {"normalized": False, "special": True}
                    for i, word in enumerate(control)
                ],
                "pre_tokenizer": {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": True,
                },
                "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                "model": {
                    "type": "BPE",
                    "vocab": {word: i for i, word in enumerate(words)},
                    "merges": [[a, b] for a, b in pairs],
                },
            }
        )
    )
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


def server_environment() -> dict[str, str]:
    """The server's environment: one compute thread on core 0, no look-ups outside."""
    return {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": "0",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }


def flags(options: dict[str, str]) -> list[str]:
    """The flags that decide how the engine runs."""
    return [
        *("--load-format", "dummy", "--dtype", "bfloat16"),
        *(() if options["tokenizer"] else ("--skip-tokenizer-init",)),
        *("--max-model-len", options["max_model_len"]),
        *("--max-num-batched-tokens", options["max_num_batched_tokens"]),
        *("--max-num-seqs", options["max_num_seqs"]),
        *("--num-gpu-blocks-override", options["kv_blocks"]),
    ]


def command(folder: Path, options: dict[str, str]) -> list[str]:
    """The server's command line."""
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--served-model-name", "tiny-llama"),
        *("--host", "127.0.0.1", "--port", options["port"]),
        *flags(options),
    ]


def healthy(port: str) -> bool:
    """True when the server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def main(arguments: list[str]) -> int:
    """Start the server, say when it is ready, wait until it or we end."""
    options = dict(DEFAULTS)
    if arguments == ["flags"]:
        print(" ".join(flags(options)))
        return 0
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in options:
            print(f"unknown option '{argument}'; options: {', '.join(options)} (key=value)", file=sys.stderr)
            return 2
        options[key] = value
    with tempfile.TemporaryDirectory(prefix="tiny-llama-") as name:
        folder = Path(options["folder"] or name).resolve()
        config = model_config(int(options["layers"]), int(options["hidden"]), int(options["max_model_len"]))
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        if options["tokenizer"]:
            write_tokenizer(folder)
        with open(options["log"] or os.devnull, "w") as log:
            server = subprocess.Popen(
                command(folder, options), env=server_environment(), stdout=log, stderr=subprocess.STDOUT
            )
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(server.pid, cores[-1:])
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            deadline = time.monotonic() + float(options["timeout_s"])
            while not healthy(options["port"]):
                if server.poll() is not None or time.monotonic() > deadline:
                    print(f"vLLM did not start; see its log ({options['log'] or 'log=FILE keeps it'})", file=sys.stderr)
                    return 1
                time.sleep(1)
            print(f"ready {server.pid}", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
