"""The pages: links lead somewhere, versions are those of the package, quoted messages those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

import chemnet
from cfd_coupling import checkpoint as flow_checkpoint
from chemnet.data import dataset
from chemnet.surrogate import model_file
from chemnet.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *DOCS.rglob("*.md"),
    *(page for top in ("cases", "chemnet", "cfd_coupling") for page in (ROOT / top).rglob("*.md")),
]
FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page):
    """Text of a page without its blocks of code."""
    return FENCES.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """Anchors of the headings of a page, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_to_files_and_headings_that_are_there(page):
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"no heading {anchor} in {target.name}"


def test_the_reference_names_everything_that_is_public():
    page = (DOCS / "python.md").read_text()
    missing = [name for name in chemnet.__all__ if not re.search(rf"chemnet\.{name}\b", page)]
    assert not missing


def test_versions_of_the_page_are_those_of_the_package_and_of_the_tested_set():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    least = dict(line.split(">=") for line in (*project["dependencies"], *extras))
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    page = (DOCS / "compatibility.md").read_text()
    rows = re.findall(r"^\| ([\w.]+)(?: \(.*\))? \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert rows.pop(0)[:2] == ("Python", project["requires-python"].removeprefix(">="))
    assert len(rows) >= 12
    for package, at_least, tested in rows:
        assert (at_least, tested) == (least[package], pins[package]), package


def test_formats_of_the_page_are_those_that_are_written():
    page = (DOCS / "compatibility.md").read_text()
    training = checkpoint._CHECKPOINT.decode().strip()
    for name in (model_file.FORMAT, dataset.FORMAT, flow_checkpoint.FORMAT, training):
        assert f"`{name}`" in page


def test_messages_that_the_page_quotes_are_in_the_code():
    troubles = (DOCS / "questions.md").read_text().partition("## Troubles")[2]
    quoted = re.findall(r"^\| `([^`]+)` \|", troubles, re.MULTILINE)
    sources = "\n".join(path.read_text() for top in ("chemnet", "cfd_coupling") for path in (ROOT / top).rglob("*.py"))
    assert len(quoted) >= 10
    assert [message for message in quoted if message not in sources] == []
