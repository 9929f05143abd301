"""Gives PyPI a README whose links work, and the project's addresses, when a distribution is built.

PyPI has no file beside the README, so links to files and the picture need full addresses. GitHub's
workflows name the repository in their environment. Elsewhere a link becomes its text, and the
picture with its caption is left out.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)]+)\)")
_PICTURE = re.compile(r"!\[([^\]]+)\]\((?!https?:)([^)]+)\)")
_PICTURE_WITH_CAPTION = re.compile(_PICTURE.pattern + r"\n\n\*[^*\n]+\*\n\n")


class PublicAddresses(MetadataHookInterface):
    """Sets `readme` and `urls`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """See `MetadataHookInterface.update`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = repository_address(os.environ)
        tag = f"v{metadata['version']}"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme_for_pypi(text, address, tag),
        }
        if address:
            metadata["urls"] = {
                "Repository": address,
                "Documentation": f"{address}/blob/{tag}/docs/index.md",
                "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }


def repository_address(environ: Mapping[str, str]) -> str:
    """Returns the repository's address in a workflow of GitHub, elsewhere an empty string."""
    server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}" if server and repository else ""


def readme_for_pypi(text: str, address: str, tag: str) -> str:
    """Returns the README with full addresses of files at `tag`, or without links to them."""
    if not address:
        return _LINK.sub(r"\1", _PICTURE_WITH_CAPTION.sub("", text))
    text = _PICTURE.sub(rf"![\1]({address}/raw/{tag}/\2)", text)
    return _LINK.sub(rf"[\1]({address}/blob/{tag}/\2)", text)
