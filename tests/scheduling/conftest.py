"""Fixtures and cases shared with the tests of engines."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from policies import own  # noqa: F401
