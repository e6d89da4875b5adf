"""Routers, one per file: where a request goes."""
