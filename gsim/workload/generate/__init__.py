"""Generated workloads: agentic mixes, the paper's synthetic shape, published length distributions."""
