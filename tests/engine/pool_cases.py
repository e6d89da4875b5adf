"""What the tests of the two kinds of KV pool share: sequences over either, and what must hold of a tree at any time."""

from __future__ import annotations

from engine_cases import job, limits

from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.kv.run_pool import RunPool
from gsim.engine.sequence import OwnBlocks, make_sequence


def sequence(pool, number, tokens=0, content=(), output_segment=-1):
    """A new sequence for a pool: ``tokens`` nameless tokens, or a content."""
    prompt = sum(n for _, n in content) or tokens
    asked = job(number, 0.0, prompt, 100, content=content, output_segment=output_segment)
    ample = limits(block_size=pool.block_size, kv_blocks=1 << 20, max_model_len=1 << 20)
    made = make_sequence(asked, number, 0.0, 0, ample, pool)
    assert made is not None
    return made


def admit(pool, number, content=(), tokens=0):
    """Admit a new sequence with all of its prompt; it and how many blocks it hit."""
    made = sequence(pool, number, tokens, content)
    match = pool.match(made)
    pool.admit(made, match, made.prompt)
    made.computed = made.prompt
    return made, match.blocks


def nodes_of(pool: RunPool):
    """All nodes of a tree but its root."""
    pending = list(pool.tree.root.children.values())
    while pending:
        node = pending.pop()
        yield node
        pending += node.children.values()


def check_tree(pool: RunPool) -> None:
    """Nodes follow one another, have blocks, and end with their longest run; idle runs are those that nobody holds."""
    assert not pool.tree.root.runs
    idle = set()
    for node in nodes_of(pool):
        assert node.parent.children[node.key] is node
        assert node.start == node.parent.end < node.end
        assert node.end == node.start + max(run.blocks for run in node.runs)
        for run in node.runs:
            assert run.node is node
            assert run.parts is None
            assert run.blocks > 0
            if run.refs == 0:
                idle.add(run)
        # Whoever has a block has those before it.
        assert not node.children or any(run.end == node.end for run in node.runs)
    listed = [entry for entry in pool.idle if not isinstance(entry, OwnBlocks)]
    assert len(listed) == len(idle)
    assert set(listed) == idle
    assert pool.free == pool._blank + sum(entry.blocks for entry in pool.idle)


#: Blocks by identity and blocks by runs.
POOLS = (BlockPool, RunPool)
