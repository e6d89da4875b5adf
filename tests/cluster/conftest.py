"""The cluster's tests simulate through one fixture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster_cases import simulate_on

from gsim.cluster import RunResult


@pytest.fixture
def run() -> Callable[..., RunResult]:
    """Simulate sessions on a pool under a router."""
    return simulate_on
