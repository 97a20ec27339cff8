"""Settings of the documentation site: `make docs`, or `sphinx-build -W -c docs . build/docs`.

Sphinx, because it takes the Markdown pages where they lie, checks every link between them, and makes the reference from
the docstrings; by MyST it reads the notebook, too. Its source is the whole repository, so that links between pages
are the same here and on a code host. What only the site needs is added while the pages are read: the tree of pages
to docs/README.md, and the parsers' help to docs/commands.md.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELF = "chemnet/surrogate/pretrained"
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from command_line import commands_as_markdown  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from chemnet.version import __version__  # noqa: E402

project, release, copyright = "chemnet", __version__, "the chemnet developers, MIT licence"
html_title = f"chemnet {__version__}"

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "docs/README"
include_patterns = [
    "README.md",
    "docs/*.md",
    "docs/*.ipynb",
    "docs/examples/README.md",
    "cfd_coupling/*.md",
    "chemnet/*/README.md",
    f"{SHELF}/*.md",
    "cases/*/README.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "datasets", "tests", "*.egg-info"]

# By caption: the pages in the bar on the left.
PAGES = {
    "Learn": ["docs/half_hour", "docs/tutorial", "docs/examples/README", "docs/how_to", "docs/questions"],
    "Look up": ["docs/commands", "docs/python", "docs/formats", "docs/compatibility"],
    "Read on": [
        "Overview </README>",
        "chemnet/kinetics/README",
        "chemnet/condensation/README",
        "chemnet/validation/README",
        "chemnet/reduction/README",
        "chemnet/vision/README",
        "The flow solver </cfd_coupling/README>",
        "cfd_coupling/VERIFICATION",
    ],
    "Cases": [f"cases/{path.parent.name}/README" for path in sorted(ROOT.glob("cases/*/README.md"))],
    "Models": [f"{SHELF}/{path.stem}" for path in sorted(ROOT.glob(f"{SHELF}/*.md"))],
}

myst_heading_anchors = 3
nb_execution_mode = "off"  # a test runs the notebook; the site shows the outputs that it keeps
default_role = "literal"  # docstrings write names in single backticks
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Data", "Report", "Say", "Visit")}
autodoc_member_order = "bysource"
autoclass_content = "class"
python_maximum_signature_line_length = 90
highlight_language = "text"  # of indented blocks, which are commands

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "to_root.html"}
templates_path = ["templates"]


def entry(page: str) -> str:
    """A page as a tree of pages takes it, from the root; `TITLE </PAGE>` as it stands."""
    return page if page.endswith(">") else f"/{page}"


def add_to_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Add what only the site has to the text of a page."""
    if name == root_doc:
        trees = (
            f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n"
            + "".join(f"{entry(page)}\n" for page in pages)
            + "```\n"
            for caption, pages in PAGES.items()
        )
        source[0] += "\n" + "\n".join(trees)
    if name == "docs/commands":
        source[0] += "\n" + commands_as_markdown()


def setup(app: Sphinx) -> None:
    """Connect to the events of the build."""
    app.connect("source-read", add_to_page)
