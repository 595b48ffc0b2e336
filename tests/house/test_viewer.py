"""Rules of the viewer: plain modules that reach each other, no HTML made of data, no address of another host."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, ROOT, repository_files

VIEWER = PACKAGE / "viewer"
LINES = 400
COLUMNS = 120
ENTRIES = ("main.js", "home.js", "widget.js")

# Rows are shown as text: nothing here may turn a string into elements, code or a style attribute.
BANNED = {
    "HTML from strings": r"\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|srcdoc|DOMParser)\b"
    r"|\bdocument\.write",
    "code from strings": r"\beval\s*\(|\bnew Function\b|set(Timeout|Interval)\(\s*[\"'`]|javascript:",
    "style attributes": r"""setAttribute\(\s*["']style|\bstyle:\s*["'`]|\bcssText\b""",
    "the console": r"\bconsole\.",
    "cookies": r"\bdocument\.cookie\b",
}
_IMPORT = re.compile(
    r"""(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"|\n\s*import\s+"([^"]+)"|import\("([^"]+)"\)"""
)
_ADDRESS = re.compile(r"""https?://([^\s"'`/)>]+)""")
_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", re.DOTALL)


def _files(*suffixes: str) -> list[Path]:
    return [path for path in repository_files() if VIEWER in path.parents and path.suffix in suffixes]


def _name(path: Path) -> str:
    return path.relative_to(VIEWER).as_posix()


def _code(path: Path) -> str:
    """Return a module without its comments, types included, line for line."""
    return _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), path.read_text(encoding="utf-8"))


def _imports(path: Path) -> set[Path]:
    named = {next(filter(None, found)) for found in _IMPORT.findall(_code(path))}
    return {(path.parent / one).resolve() for one in named}


@cache
def _reached() -> frozenset[Path]:
    waiting = [VIEWER / name for name in ENTRIES if (VIEWER / name).exists()]
    reached: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in reached and path.exists():
            reached.add(path)
            waiting.extend(_imports(path))
    return frozenset(reached)


@pytest.mark.parametrize("path", _files(".js", ".css"), ids=_name)
def test_a_file_fits(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LINES
    assert [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS] == []


@pytest.mark.parametrize("path", _files(".js"), ids=_name)
@pytest.mark.parametrize("rule", BANNED)
def test_modules_are_free_of(path: Path, rule: str) -> None:
    found = [
        f"{number}: {line.strip()[:80]}"
        for number, line in enumerate(_code(path).splitlines(), 1)
        if re.search(BANNED[rule], line)
    ]
    assert found == []


@pytest.mark.parametrize("path", _files(".js"), ids=_name)
def test_imports_lead_to_files_of_the_viewer(path: Path) -> None:
    imported = _imports(path)
    assert {str(one) for one in imported if VIEWER not in one.parents or not one.is_file()} == set()


@pytest.mark.parametrize("path", _files(".js"), ids=_name)
def test_modules_say_what_they_are(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("/**")


def test_every_module_is_reached() -> None:
    """What no page loads is dead; types.js holds types alone."""
    unreached = {path for path in _files(".js") if path not in _reached()} - {VIEWER / "types.js"}
    assert {_name(path) for path in unreached} == set()


def test_every_style_sheet_is_linked() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in _files(".html"))
    code = "".join(path.read_text(encoding="utf-8") for path in _files(".js"))
    assert [_name(path) for path in _files(".css") if path.name not in pages + code] == []


@pytest.mark.parametrize("path", _files(".js", ".css", ".html"), ids=_name)
def test_no_address_of_another_host(path: Path) -> None:
    hosts = set(_ADDRESS.findall(path.read_text(encoding="utf-8")))
    assert hosts <= {"www.w3.org"}, hosts


@pytest.mark.parametrize("path", _files(".html"), ids=_name)
def test_pages_hold_no_scripts_and_no_styles(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


def test_the_type_checker_is_pinned_and_strict() -> None:
    package = json.loads((ROOT / "tests" / "browser" / "package.json").read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    options = json.loads((ROOT / "tests" / "browser" / "tsconfig.json").read_text(encoding="utf-8"))["compilerOptions"]
    assert options["checkJs"]
    assert options["strict"]
    ignored = [_name(path) for path in _files(".js") if re.search(r"@ts-(nocheck|ignore)", path.read_text("utf-8"))]
    assert ignored == []
