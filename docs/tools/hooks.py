"""What mkdocs calls while it builds the site: see its documentation, "Hooks".

The pages in docs/ are written to be read in the checkout too, on a forge or in an editor. So they link to files beside
docs/, and mark their snippets (`docs.tools.snippets`). Here each file that is linked to gets a page in the site, or is
copied if it is a picture or a page already, and links lead there.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

__all__ = ["home_of", "on_files", "on_page_markdown", "origin_of", "target_of"]

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # `mkdocs` itself, unlike `python -m mkdocs`, does not: for docs.tools.api

_HOMES = {"bench/README.md": "lab.md"}
"""Files outside docs/ that have a page in the navigation."""
_AS_THEY_ARE = {".svg", ".png", ".html"}
_LANGUAGES = {".py": "python", ".service": "ini", ".socket": "ini", ".conf": "nginx", ".toml": "toml", ".sh": "sh"}
_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"(\]\(|^\[[^\]]+\]: *)(?![a-z]+:|#|/)([^)\s#]+)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page, or a copy, for each file outside docs/ that a page links to, and for those that these link to."""
    done: set[str] = set()
    to_do = ["bench/README.md"]
    for file in files.documentation_pages():
        to_do += _linked_files(f"docs/{file.src_uri}", file.content_string)
    while to_do:
        path = to_do.pop()
        if path in done or path.startswith("docs/"):
            continue
        done.add(path)
        level = InclusionLevel.UNDEFINED if path in _HOMES else InclusionLevel.NOT_IN_NAV
        if Path(path).suffix in _AS_THEY_ARE:
            files.append(File.generated(config, home_of(path), abs_src_path=str(ROOT / path), inclusion=level))
            continue
        text = _page_of(path)
        files.append(File.generated(config, home_of(path), content=text, inclusion=level))
        to_do += _linked_files(origin_of(home_of(path)), text)


def _linked_files(page: str, text: str) -> Iterator[str]:
    for match in _LINK.finditer(_FENCE.sub("", text)):
        if (target := target_of(page, match[2])) is not None and (ROOT / target).exists():
            yield target


def target_of(page: str, link: str) -> str | None:
    """The path in the repository that `link` in `page` means, if that is outside docs/."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if path.startswith("../") or (page.startswith("docs/") and path.startswith("docs/")):
        return None
    return path


def home_of(path: str) -> str:
    """Where a path of the repository is in the site, as if it were in docs/."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in _HOMES:
        return _HOMES[path]
    if Path(path).suffix in _AS_THEY_ARE or path.endswith(".md"):
        return f"files/{path}"
    return f"files/{path}/index.md" if (ROOT / path).is_dir() else f"files/{path}.md"


def origin_of(home: str) -> str:
    """The path in the repository from which the links of a page of the site are meant."""
    for path, known in _HOMES.items():
        if known == home and not (ROOT / "docs" / home).exists():
            return path
    path = home.removeprefix("files/")
    return path if path != home and (ROOT / path).is_file() else f"docs/{home}"


def _page_of(path: str) -> str:
    """The text of the page for a file, or for a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(each.name for each in file.iterdir() if not each.name.startswith((".", "__")) and each.is_file())
        steps = "../" * (home_of(path).count("/") + 1)  # as from docs/files/...: see on_page_markdown
        return f"# {path}/\n\n" + "".join(f"- [{name}]({steps}{path}/{name})\n" for name in names)
    text = file.read_text()
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n`````{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n`````\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where things are in the site, and take out what is for our tests: marks, and comments."""
    here = page.file.src_uri
    origin = origin_of(here)

    def moved(link: re.Match[str]) -> str:
        target = target_of(origin, link[2])
        if target is None or not (ROOT / target).exists():
            return link[0]
        return link[1] + posixpath.relpath(home_of(target), posixpath.dirname(here) or ".")

    markdown = re.sub(r"^( *```+)(python|sh) [a-z-]+$", r"\1\2", markdown, flags=re.MULTILINE)
    # In a table a forge wants \| in code too, and Markdown's extension wants none.
    markdown = re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]+`", _plain_bars, row[0]), markdown, flags=re.MULTILINE)
    return _outside_code(markdown, lambda text: _LINK.sub(moved, _COMMENT.sub("", text)))


def _plain_bars(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts, at = [], 0
    for code in _FENCE.finditer(markdown):
        parts += [change(markdown[at:code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, change(markdown[at:])])
