"""For `make docs`: puts files of the repository that pages link to into the site, below `repository/`.

On GitHub such links lead out of docs/, which mkdocs refuses. A page of the repository (server/README.md)
becomes a page of the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()(?!https?://|mailto:|#)([^)\s#]+)")
INSIDE = "repository"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    waiting = [file for file in files if file.src_uri.endswith(".md")]
    while waiting:
        page = waiting.pop()
        for _, target in LINK.findall(page.content_string):
            path = _in_repository(page.src_uri, target)
            uri = _in_site(path)
            if uri.startswith(INSIDE) and (ROOT / path).is_file() and not files.get_file_from_path(uri):
                added = File.generated(config, uri, abs_src_path=str(ROOT / path))
                files.append(added)
                if uri.endswith(".md"):
                    waiting.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        uri = _in_site(_in_repository(page.file.src_uri, link[2]))
        return f"{link[1]}{posixpath.relpath(uri, here or '.')}"

    return LINK.sub(moved, markdown)


def _in_repository(uri: str, target: str) -> str:
    """Where a link of a page of the site leads, from the repository's root."""
    page = uri.removeprefix(f"{INSIDE}/") if uri.startswith(f"{INSIDE}/") else f"docs/{uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _in_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{INSIDE}/{path}"
