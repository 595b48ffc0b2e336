"""What the house rules look at: the repository's files and the package's syntax trees."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "Import", "imports_of", "modules", "repository_files", "tree_of"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "gnomonic"
_SKIPPED = {".venv", "build", "dist", "__pycache__", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """One imported module."""

    name: str
    """Absolute dotted name, with the imported attribute where it may be a module of ours."""
    line: int
    deferred: bool
    """Inside a function or under `if TYPE_CHECKING`, so it costs nothing when the module is imported."""


@cache
def modules() -> tuple[Path, ...]:
    """Every Python file of the package."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.module is None or node.level:
        return []  # ruff's TID252 bans relative imports
    if node.module.split(".")[0] == "gnomonic":
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [node.module]


def imports_of(path: Path) -> list[Import]:
    """Return every import statement of a file, wherever it stands."""
    found: list[Import] = []

    def visit(node: ast.AST, deferred: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(name=name, line=node.lineno, deferred=deferred) for name in _names(node))
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree_of(path), False)
    return found


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is, or would be, committed."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):  # a source archive is not a git repository
        paths = [path for path in ROOT.rglob("*") if not _SKIPPED.intersection(path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in paths if path.is_file()))
