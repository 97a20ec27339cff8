"""A page of HTML in one file that needs nothing else: tables, text, and pictures inside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
p.lead {{ color: #555; margin-top: .2rem; }}
table {{ border-collapse: collapse; margin: .5rem 2rem .5rem 0; display: inline-table; vertical-align: top; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
td, th {{ padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; text-align: left; font-weight: normal; }}
th {{ color: #555; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
figure {{ margin: 1rem 0; }} img {{ max-width: 100%; }} figcaption {{ color: #555; font-size: .9rem; }}
pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .85rem; }}
@media print {{ body {{ max-width: none; margin: 0; }} h2, figure {{ break-inside: avoid; }} }}
</style></head><body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
</body></html>
"""


def page(title: str, lead: str, body: Sequence[str]) -> str:
    """The page with a title, a line below it, and parts of HTML."""
    return _PAGE.format(title=html.escape(title), lead=html.escape(lead), body="\n".join(body))


def heading(text: str) -> str:
    """A heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def points(lines: Sequence[str]) -> str:
    """A list of points."""
    return "\n".join(["<ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>"])


def verbatim(text: str) -> str:
    """Text as it stands, in lines."""
    return f"<pre>{html.escape(text)}</pre>"


def table(
    title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = (), words: Sequence[bool] | None = None
) -> str:
    """A table; columns that do not hold `words` align to the right, by default the last one where columns have no
    names."""
    width = len(columns) or max(map(len, rows), default=0)
    left = [bool(columns) or place < width - 1 for place in range(width)] if words is None else words
    kinds = ["" if is_left else ' class="number"' for is_left in left]
    head = f"<tr>{_cells(columns, kinds, 'th')}</tr>\n" if columns else ""
    lines = "\n".join(f"<tr>{_cells(row, kinds, 'td')}</tr>" for row in rows)
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    return f"<table>{caption}\n{head}{lines}\n</table>"


def _cells(row: Sequence[str], kinds: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}{kind}>{html.escape(value)}</{tag}>" for kind, value in zip(kinds, row, strict=True))


def figure(picture: Path, caption: str) -> str:
    """A PNG picture inside the page, with a caption."""
    data = base64.b64encode(picture.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
