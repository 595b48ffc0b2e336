"""The demo: what it reads, and that it maps, finds and shows."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gnomonic.cli.answers import show_answers
from gnomonic.cli.docstrings import Docstring, read_docstrings
from gnomonic.cli.main import app
from gnomonic.cli.progress import duration
from gnomonic.inference.encoder import TextEncoder
from tests.house.sources import PACKAGE

pytest.importorskip("lancedb")
pytest.importorskip("fastapi")

from gnomonic.client.datasets import LocalDataset

SOURCE = '''"""A module that says what it is for, at length."""
import no_such_module_that_would_fail

def visible():
    """Do a visible thing with some care.

    And more of it.
    """
    def inner():
        """An inner function is nobody's business but its own."""

def short():
    """Too short."""

class Shape:
    """A shape with corners, drawn on paper."""

    def area(self):
        """Return how much paper the shape covers."""

    def _private(self):
        """A private method that nobody should be shown."""

def twin():
    """Return how much paper the shape covers."""
'''


def test_docstrings_are_read_without_importing(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "mod.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "pack" / "broken.py").write_text("def (:", encoding="utf-8")
    (tmp_path / "pack" / "_hidden.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "mod.py").write_text(SOURCE, encoding="utf-8")
    found = read_docstrings(tmp_path)
    assert [docstring.name for docstring in found] == [
        "pack.mod",
        "pack.mod.visible",
        "pack.mod.Shape",
        "pack.mod.Shape.area",
    ]
    assert found[1].summary == "Do a visible thing with some care."


def test_this_python_has_thousands_of_docstrings() -> None:
    found = read_docstrings()
    assert len(found) > 2000
    assert any(docstring.name == "shutil.copytree" for docstring in found)


def test_a_docstring_knows_what_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text(SOURCE, encoding="utf-8")
    found = {docstring.name: docstring for docstring in read_docstrings(tmp_path)}
    kinds = {name: one.kind for name, one in found.items()}
    assert kinds == {"mod": "module", "mod.visible": "function", "mod.Shape": "class", "mod.Shape.area": "method"}
    assert {one.module for one in found.values()} == {"mod"}
    assert found["mod"].source_lines == len(SOURCE.splitlines())
    assert found["mod.Shape.area"].source_lines == 2


def test_square_brackets_are_shown_as_they_are() -> None:
    out = io.StringIO()
    show_answers(Console(file=out, width=100), "what is x[0]?", [("a.b", "Return [x].", 0.5)])
    assert "x[0]?" in out.getvalue()
    assert "Return [x]." in out.getvalue()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder) -> list[Docstring]:
    """Forty docstrings of a tiny model, and a worker that finds this package."""
    found = [Docstring(name=f"shutil.f{i}", text=f"the fox and [{i}] the river", module="shutil") for i in range(80)]
    monkeypatch.setattr("gnomonic.cli.docstrings.read_docstrings", lambda: [*found, found[0]])
    monkeypatch.setattr("gnomonic.client.local.text_encoder", lambda _model: fake_encoder)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    return found


def test_the_demo_maps_answers_and_serves(few: list[Docstring], tmp_path: Path) -> None:
    options = ["demo", "--limit", "40", "--data-dir", str(tmp_path)]
    first = CliRunner().invoke(app, options)  # no terminal, so it ends
    assert first.exit_code == 0, first.output
    assert "40 docstrings" in first.stdout
    assert first.stdout.count("?") >= 5
    assert "shutil.f" in first.stdout
    assert re.search(r"^Map: http://127\.0\.0\.1:\d+/map/local/python-docstrings-40$", first.stdout, re.MULTILINE)
    rows = LocalDataset("python-docstrings-40", root=tmp_path, create=False).get_data(["shutil.f0"])
    assert rows[0] | {"text": ""} == {
        "name": "shutil.f0", "kind": "function", "package": "shutil", "module": "shutil", "words": 6, "source_lines": 0,
        "has_example": False, "summary": "the fox and [0] the river", "text": "",
    }  # fmt: skip
    again = CliRunner().invoke(app, options)
    assert again.exit_code == 0, again.output
    assert "mapped before" in again.stdout
    assert "embeddings" in first.stderr
    assert "embeddings" not in again.stderr


def test_another_python_is_mapped_anew(few: list[Docstring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomonic.cli.viewing.show", lambda *_, **__: None)
    LocalDataset("python-docstrings", "docstrings of Python 2", "name", root=tmp_path).add_data([{"name": "old"}])
    result = CliRunner().invoke(app, ["demo", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert len(LocalDataset("python-docstrings", root=tmp_path, create=False)) == 80


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.84, "0.8 s"), (12.3, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_told_in_the_units_of_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
