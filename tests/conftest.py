"""What all tests share: Hypothesis profiles, and where the shared reference data is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from hypothesis import HealthCheck, settings

from gsim.core import registry

matplotlib.use("Agg")

# Deterministic examples: a red test is red for everybody. GSIM_HYPOTHESIS=search looks for new ones.
settings.register_profile("repeat", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("GSIM_HYPOTHESIS", "repeat"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data that lies beside the checkout; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not here")
    return folder


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test runs in an empty folder, and leaves no extension behind."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for names in registry._ENTRIES.values():
        for name in [n for n, entry in names.items() if entry.cls.__module__.startswith("gsim_extension_")]:
            del names[name]
    for name in [name for name in sys.modules if name.startswith("gsim_extension_")]:
        del sys.modules[name]
