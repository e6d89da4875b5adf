"""A recorded pool behind a gateway: its placements replayed, and its routers predicted."""
