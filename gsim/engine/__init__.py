"""One vLLM-like engine: KV blocks, prefix cache, scheduler; the stepwise reference and the decode clock."""
