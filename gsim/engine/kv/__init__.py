"""What an engine keeps of prompts and outputs: KV blocks on the card, by blocks or by runs, and in the host."""
