"""What a cache that never forgets could reuse."""

from __future__ import annotations

from gsim.core import Content, Job


class SentBefore:
    """Longest prefix of a prompt that equals one sent before, to the token. Costs a step per piece, not per token."""

    def __init__(self) -> None:
        self._longest: dict[tuple[int, int], int] = {}
        """Per chain of whole pieces and the piece after it, the most tokens of that piece."""
        self._chains: set[int] = {0}

    def shared(self, content: Content) -> int:
        """Leading tokens in common with what was added."""
        tokens = chain = 0
        for piece, size in content:
            common = min(size, self._longest.get((chain, piece), 0))
            tokens += common
            chain = hash((chain, piece, size))
            if common < size or chain not in self._chains:
                break
        return tokens

    def add(self, content: Content) -> None:
        """This was sent."""
        chain = 0
        for piece, size in content:
            key = (chain, piece)
            self._longest[key] = max(size, self._longest.get(key, 0))
            chain = hash((chain, piece, size))
            self._chains.add(chain)


class InfiniteCache:
    """Everything ever sent or generated stays: the upper end of what a prefix cache can hit.

    As in vLLM, only full blocks count, and at least one token of a prompt is always computed.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._sent = SentBefore()

    def reuse(self, job: Job) -> int:
        """Tokens of the job's prompt that are known; from then on its prompt and its output are known too."""
        content = job.request.content
        if not content:
            return 0
        shared = min(self._sent.shared(content), job.request.prompt_tokens - 1)
        if job.output_segment >= 0 and job.output_tokens > 1:
            # The KV of the last generated token is never computed.
            content = (*content, (job.output_segment, job.output_tokens - 1))
        self._sent.add(content)
        return shared - shared % self.block_size
