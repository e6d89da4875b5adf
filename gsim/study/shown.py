"""Figures that a notebook shows by itself."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure that a notebook shows as a picture, also where nobody has imported pyplot (which would see to that)."""

    def _repr_png_(self) -> bytes:
        into = io.BytesIO()
        self.savefig(into, format="png", dpi=100)
        return into.getvalue()
