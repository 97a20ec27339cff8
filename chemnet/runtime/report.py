"""A report in two forms: Markdown with pictures beside it, and one file of HTML that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chemnet.runtime import html_page
from chemnet.runtime.files import write_text
from chemnet.runtime.tables import Table


@dataclass(frozen=True)
class Heading:
    """Heading of a section."""

    text: str


@dataclass(frozen=True)
class Points:
    """List of points, each a line of text."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """PNG picture with its caption."""

    path: Path
    caption: str


Part = Heading | Points | Picture | Table | str  # text is a paragraph


def write_report(stem: Path, title: str, lead: str, parts: Sequence[Part]) -> list[Path]:
    """Write `stem.md` and `stem.html`; their paths. The HTML holds the pictures, the Markdown names them.

    Raises OSError for a picture that is not there.
    """
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in ("md", "html")]
    blocks = [f"# {title}", lead, *(_markdown(part, stem.parent) for part in parts)]
    write_text(files[0], "\n\n".join(block for block in blocks if block) + "\n")
    write_text(files[1], html_page.page(title, lead, [_html(part) for part in parts]))
    return files


def _markdown(part: Part, folder: Path) -> str:
    if isinstance(part, Heading):
        return f"## {part.text}"
    if isinstance(part, Points):
        return "\n".join(f"* {line}" for line in part.lines)
    if isinstance(part, Picture):
        return f"![{part.caption}]({os.path.relpath(part.path, folder)})"
    if isinstance(part, Table):
        return f"**{part.title}**\n\n{part.markdown()}" if part.title else part.markdown()
    return part


def _html(part: Part) -> str:
    if isinstance(part, Heading):
        return html_page.heading(part.text)
    if isinstance(part, Points):
        return html_page.points(part.lines)
    if isinstance(part, Picture):
        return html_page.figure(part.path, part.caption)
    if isinstance(part, Table):
        return html_page.table(part.title, part.cells(), part.columns, part.holds_words())
    return html_page.paragraph(part)
