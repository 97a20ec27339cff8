"""Reports: Markdown and one file of HTML hold the same, and the HTML asks nothing of a network."""

import base64
import re

import pytest

from chemnet.runtime.report import Heading, Picture, Points, write_report
from chemnet.runtime.tables import Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def written(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "dot.png").write_bytes(PNG)
    table = Table(
        "errors <of> T", ("name", "error [%]", "range"), [("a & b", 0.12345, (1.0, 2.5)), ("c", None, (3, 4))]
    )
    parts = [Heading("Figures"), "T < 800 K", Points(["one", "two & three"]), table]
    parts.append(Picture(tmp_path / "pictures" / "dot.png", "a dot"))
    return write_report(tmp_path / "phi-0.8", "Runs", "two of them", parts)


def test_both_files_have_the_name_of_the_report_whatever_dots_are_in_it(written):
    assert [file.name for file in written] == ["phi-0.8.md", "phi-0.8.html"]


def test_markdown_names_the_picture_beside_it(written):
    text = written[0].read_text()
    for words in ("# Runs\n\ntwo of them\n", "## Figures", "T < 800 K", "* one\n* two & three", "**errors <of> T**"):
        assert words in text
    assert "| a & b | 0.1235 | 1 - 2.5 |" in text and text.endswith("![a dot](pictures/dot.png)\n")


def test_html_holds_the_picture_escapes_words_and_needs_nothing_else(written):
    page = written[1].read_text()
    assert base64.b64encode(PNG).decode() in page
    assert "errors &lt;of&gt; T" in page and "<td>a &amp; b</td>" in page and "<li>two &amp; three</li>" in page
    assert '<td class="number">0.1235</td>' in page and "<h2>Figures</h2>" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|url\(|@import|<script""", page)
