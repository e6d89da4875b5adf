"""For the site: the README is a page of it, and a link to a file that is no page becomes its name alone."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]


def on_files(files, config):
    """README.md as readme.md, its links as seen from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "readme.md", content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown, page, **_):
    """Links that leave docs/."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(rf"\]\({re.escape(up)}\.\./README\.md", f"]({up}readme.md", markdown)
    return re.sub(rf"\[([^\]]+)\]\({re.escape(up)}\.\./[^)]*\)", r"\1", markdown)
