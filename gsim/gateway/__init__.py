"""What a gateway keeps and does: follow requests, keep the view fresh, ask the policies, move requests."""
