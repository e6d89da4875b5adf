"""Scalers: how many instances are up, and in which slots (what they see: ``Slots`` and the view)."""
