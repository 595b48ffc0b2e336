"""The viewer's files, for whoever hands them out: a server, an export, a notebook."""

from __future__ import annotations

import hashlib
import html
import posixpath
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gnomonic.errors import InputError

__all__ = ["KINDS", "PAGES", "Module", "files", "modules", "page", "read", "styles", "version"]

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types by the ends of names; a file that ends otherwise is none of the viewer's."""
PAGES = ("index.html", "home.html")
"""The page of a map, and the list of maps."""

_ROOT = Path(__file__).parent
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_IMPORT = re.compile(
    r"""^\s*(?:import|export)\s+(?:[\w*{}\s,$]+?\s+from\s+)?["'](\.{1,2}/[^"']+)["']"""
    r"""|\bimport\(\s*["'](\.{1,2}/[^"']+)["']\s*\)""",
    re.MULTILINE,
)
_SOURCE = re.compile(r'(<meta name="gnomonic-source" content=")[^"]*(")')
_TITLE = re.compile(r"(<title>)[^<]*(</title>)")
_ADDRESS = re.compile(r'((?:src|href)=")viewer/')
_SCRIPT = re.compile(r'<script type="module" src="([^"]+)"')
_PRELOAD = re.compile(r'<link rel="modulepreload" href="([^"]+)"')
_OF_PAGES = "style/page.css"
_READER_OF_FILES = "data/static_source.js"
_STYLE = re.compile(r'<link rel="stylesheet" href="viewer/([^"]+)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One ES module."""

    path: str
    """Below the viewer's folder, with forward slashes."""
    text: str
    imports: dict[str, str]
    """What it imports, as it is written there → the path of that module."""


def files() -> dict[str, Path]:
    """Return the viewer's files by their paths below its folder, with forward slashes."""
    found = (path for path in sorted(_ROOT.rglob("*")) if path.suffix in KINDS and path.is_file())
    return {path.relative_to(_ROOT).as_posix(): path for path in found}


def read(path: str) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: the viewer has none of this path.
    """
    pure = PurePosixPath(path)
    place = _ROOT / pure
    if pure.is_absolute() or ".." in pure.parts or pure.suffix not in KINDS or not place.is_file():
        raise InputError(f"the viewer has no file {path[:100]!r}")
    return place.read_bytes()


def version() -> str:
    """Return 16 hex digits that change within a second of a change of any file."""
    return _looked_up(int(time.monotonic()))


@lru_cache(maxsize=1)
def _looked_up(_: int) -> str:
    return _digest(tuple((path, place, place.stat().st_mtime_ns) for path, place in files().items()))


@lru_cache(maxsize=1)
def _digest(signature: tuple[tuple[str, Path, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, place, _ in signature:
        body = place.read_bytes()
        digest.update(f"{path} {len(body)} ".encode() + body)
    return digest.hexdigest()[:16]


def page(source: str = "", title: str = "", *, name: str = "index.html", root: str = "viewer/") -> bytes:
    """Return a page of the viewer.

    Args:
        source: where the map comes from: "/v1/datasets/…/maps/…" on a server, "static:" and a folder in an export.
        title: the page's; "" for the one it has.
        name: one of `PAGES`.
        root: address of the viewer's files, ending in a slash.
    """
    text = read(name).decode()
    text = _SOURCE.sub(lambda found: found[1] + html.escape(source) + found[2], text)
    text = _ADDRESS.sub(lambda found: found[1] + html.escape(root), text)
    reader = (_READER_OF_FILES,) if source.startswith("static:") else ()
    text = text.replace("  </head>", f"{_preloads(text, root, *reader)}  </head>", 1)
    if title:
        text = _TITLE.sub(lambda found: found[1] + html.escape(title) + found[2], text)
    return text.encode()


def _preloads(text: str, root: str, *more: str) -> str:
    """Return links to all that a page's scripts import, so that they are fetched together and not one after another.

    What only later modules need gives way to what the first ones ask for: the map itself.
    """
    start = html.escape(root)
    scripts, later = ([one.removeprefix(start) for one in found.findall(text)] for found in (_SCRIPT, _PRELOAD))
    needed = _imported(version(), *scripts, *more)
    paths = [path for path in dict.fromkeys([*needed, *_imported(version(), *later)]) if f'"{start}{path}"' not in text]
    made = ""
    for path in paths:
        priority = "" if path in needed else ' fetchpriority="low"'
        made += f'    <link rel="modulepreload" href="{start}{path}"{priority}>\n'
    return made


@lru_cache(maxsize=4)
def _imported(_: str, *entries: str) -> tuple[str, ...]:
    """Return modules and those that they need at once; without these a page works as well, if later."""
    try:
        return tuple(one.path for one in modules(*entries, lazy=False))
    except InputError:
        return ()


def styles() -> list[str]:
    """Return the style sheets of a map in somebody else's page, in their order."""
    named = _STYLE.findall(read("index.html").decode())
    return [read(path).decode() for path in named if path != _OF_PAGES]


def modules(*entries: str, lazy: bool = True) -> list[Module]:
    """Return modules with all that they import, each after what it imports itself.

    Args:
        entries: paths, such as "app.js".
        lazy: with what is imported only when it is needed.

    Raises:
        InputError: a module is missing, or two import one another.
    """
    done: dict[str, Module] = {}
    _visit(entries, done, (), lazy=lazy)
    return list(done.values())


def _visit(paths: tuple[str, ...], done: dict[str, Module], above: tuple[str, ...], *, lazy: bool) -> None:
    for path in paths:
        if path in done:
            continue
        if path in above:
            raise InputError(f"modules of the viewer import one another: {' → '.join([*above, path])}")
        text = read(path).decode()
        # In comments, import("…") is how a type is named.
        found = _IMPORT.findall(_COMMENT.sub("", text))
        named = [one or other for one, other in found if one or lazy]
        imports = {name: posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in named}
        _visit(tuple(imports.values()), done, (*above, path), lazy=lazy)
        done[path] = Module(path=path, text=text, imports=imports)
