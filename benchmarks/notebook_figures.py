"""The figures of the notebooks that start from nothing, for docs/library.md: ``python -m benchmarks.notebook_figures``.

Runs each notebook in its own folder, as a reader does, and keeps what its cells draw: docs/figures/notebook-NAME-K.png.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"


def books() -> list[Path]:
    """The notebooks that need nothing but gsim, by name."""
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [path for path in found if json.loads(path.read_text(encoding="utf-8"))["metadata"]["gsim"].get("from_zero")]


def drawn(path: Path) -> Iterator[bytes]:
    """What the cells of a notebook draw, as PNG, in their order."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            image = output.get("data", {}).get("image/png")
            if image is not None:
                yield base64.b64decode(image)


def main(names: Sequence[str]) -> int:
    """Run the notebooks of these names (none: all), and write their figures."""
    for path in books():
        if names and path.stem not in names:
            continue
        images = list(drawn(path))
        for k, image in enumerate(images, start=1):
            (FIGURES / f"notebook-{path.stem}-{k}.png").write_bytes(image)
        print(f"{path.stem}: {len(images)} figures")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
