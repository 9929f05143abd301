"""Sphinx builds the site of docs/ from this: `make docs` writes it to build/docs.

The pages are Markdown that GitHub shows as well. The API reference comes from docstrings, which are
Markdown too: `_to_rst` translates the little of it that they use.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django  # noqa: E402  # after the path and the settings
from sphinx.application import Sphinx  # noqa: E402

django.setup()

import llm_routing  # noqa: E402  # after django.setup

project = "llm_routing"
author = "the llm_routing contributors"
release = version = llm_routing.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
# promql and the like have no lexer: plain text is right for them.
highlight_language = "none"

html_theme = "pydata_sphinx_theme"
html_title = f"llm_routing {release}"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"**": ["sidebar-nav-bs"], "index": []}
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_nav_level": 2,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": ["theme-version"],
}


def _to_rst(lines: list[str]) -> list[str]:
    """Returns the reStructuredText for a docstring in Markdown: code in backticks and indented
    blocks. Every other character that reStructuredText would interpret is escaped."""
    written: list[str] = []
    in_block = False
    for line in lines:
        if line.startswith("    ") or (in_block and not line):
            if not in_block:
                written += ["::", ""]
            in_block = True
            written.append(line)
            continue
        in_block = False
        pieces = re.split(r"(`+[^`]+`+)", line)
        for position, piece in enumerate(pieces):
            if position % 2:
                pieces[position] = f"``{piece.strip('`')}``"
            else:
                pieces[position] = re.sub(r"([*|_])", r"\\\1", piece)
        written.append("".join(pieces))
    return written


def _translate(
    app: Sphinx, kind: str, name: str, documented: object, options: object, lines: list[str]
) -> None:
    lines[:] = _to_rst(lines)


def _with_toctrees(index: str) -> str:
    """Returns the index page with a hidden toctree for each of its sections, so that the list of
    pages is kept once."""
    trees = []
    for section in index.split("\n## ")[1:]:
        kind = section.partition(":")[0]
        pages = "\n".join(re.findall(r"^- \[[^]]*\]\(([^)]+)\.md\)", section, re.MULTILINE))
        trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {kind}\n\n{pages}\n```\n")
    return index + "".join(trees)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    """Adapts a page that GitHub shows as it is: files outside of docs/ become downloads."""
    source[0] = re.sub(r"\]\(((?:\.\./)+[A-Za-z_/]+\.md)\)", _outside(page), source[0])
    if page == "index":
        source[0] = _with_toctrees(source[0])


def _outside(page: str) -> Callable[[re.Match[str]], str]:
    """Returns the replacement of a link that leaves docs/ from `page`."""

    def link(found: re.Match[str]) -> str:
        target = (DOCS / page).parent / found[1]
        return found[0] if DOCS in target.resolve().parents else f"](path:{found[1]})"

    return link


def setup(app: Sphinx) -> None:
    """Registers the changes to pages and docstrings."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _translate)
