"""How requests get from one instance to another by themselves: handovers, drains, and the links that KV goes over."""
