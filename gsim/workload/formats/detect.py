"""Which format a file has, from its first row."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gsim.core.errors import TraceError
from gsim.workload.formats.json_values import json_values
from gsim.workload.report import Report, RowErrors
from gsim.workload.rows import text_lines

#: Columns of a CSV header, or keys of a first JSON object, that only this format has.
_CSV = {
    "azure": {"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
    "burstgpt": {"Timestamp", "Request tokens", "Response tokens"},
    "agent_csv": {"sid", "turn", "input_tokens", "output_tokens", "prefix_tokens_session"},
    "servegen": {"field", "q", "tokens"},
    "table": {"prompt_tokens", "output_tokens"},
}
_JSON = {
    "agentic_mooncake": {"schema", "version", "block_size"},
    "qwen_bailian": {"chat_id", "input_length", "output_length", "hash_ids"},
    "mooncake": {"input_length", "output_length"},
    "weka": {"requests"},
    "otel": {"resourceSpans"},
    "llmservingsim": {"arrival_time_ns"},
    "sharegpt": {"conversations"},
    "prompt_lengths": {"session", "context_tokens", "output_tokens"},
    "vllm_custom": {"prompt", "output_tokens"},
}


def detect(path: str) -> str:
    """The trace name for a file; ``TraceError`` where its first row is of no known format."""
    if Path(path).is_dir():
        return "weka"
    first = next((line for line in text_lines(path) if not line.isspace()), "")
    if first.lstrip()[:1] in ("{", "["):
        row = next(json_values(path, RowErrors(path, True, Report())), (0, {}))[1]
        return _match(path, _JSON, row)
    return _match(path, _CSV, dict.fromkeys(name.strip() for name in islice(first.split(","), 100)))


def _match(path: str, known: Mapping[str, set[str]], row: Mapping[str, Any]) -> str:
    for name, keys in known.items():
        if keys <= row.keys():
            return name
    raise TraceError(path, 1, f"unknown format; say format=NAME, one of: {', '.join([*_CSV, *_JSON])}")
