"""What a decode instance's TPOT will be once those on their way have arrived."""

from __future__ import annotations

import numpy as np

from gsim.core import ClusterView
from gsim.core.view import FULL_SEQUENCES, REFERENCE_SEQUENCES, Floats


def tpot_with_one_more(view: ClusterView) -> Floats:
    """TPOT of each instance with its requests on their way and one more: learned, plus the nominal growth for each."""
    static = view.static
    full_s = FULL_SEQUENCES / static.nominal_tokens_per_s
    slope_s = np.maximum(full_s - static.nominal_tpot_s, 0.0) / (FULL_SEQUENCES - REFERENCE_SEQUENCES)
    tpot_s: Floats = view.tpot_s + slope_s * (view.incoming + 1)
    return tpot_s
