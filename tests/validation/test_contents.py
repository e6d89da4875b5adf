from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Content, InputError, shared_tokens
from gsim.validation.contents import read_contents, shared_contents

PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60), min_size=1, max_size=12)


def common(left: list[int], right: list[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))


@given(PROMPTS)
def test_contents_share_exactly_what_the_tokens_share(prompts: list[list[int]]) -> None:
    # All begin with one block, which is where the reader looks for candidates.
    prompts = [[7] * 16 + prompt for prompt in prompts]
    contents: list[Content] = shared_contents(prompts)
    for prompt, content in zip(prompts, contents, strict=True):
        assert sum(tokens for _, tokens in content) == len(prompt)
    for i, left in enumerate(prompts):
        for j, right in enumerate(prompts):
            assert shared_tokens(contents[i], contents[j]) == common(left, right)


def write(path: Path, prompts: list[list[int]]) -> Path:
    path.write_text("".join(json.dumps({"input_toks": len(p), "input_tok_ids": p}) + "\n" for p in prompts))
    return path


def test_a_workload_file_is_read_and_must_be_of_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "w.jsonl", [[1] * 20, [2] * 20, [1] * 20 + [3] * 5])
    assert read_contents(path, [20, 20, 25]) == [((0, 20),), ((1, 20),), ((0, 20), (2, 5))]
    with pytest.raises(InputError, match="holds 3 requests, the run 2"):
        read_contents(path, [20, 20])
    with pytest.raises(InputError, match="request 1: has 20 prompt tokens, in the run it had 21"):
        read_contents(path, [20, 21, 25])
    with pytest.raises(InputError, match="line 1: input_tok_ids must be a list"):
        read_contents(write(tmp_path / "x.jsonl", [[]]), [1])
    (tmp_path / "y.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="line 1: input_tok_ids cannot be read: KeyError"):
        read_contents(tmp_path / "y.jsonl", [1])
    with pytest.raises(InputError, match="cannot be read"):
        read_contents(tmp_path / "none.jsonl", [1])
