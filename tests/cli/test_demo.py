"""The demo: what it reads, and that it finds and shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from gnomonic.cli.answers import Library, show_answers
from gnomonic.cli.docstrings import Docstring, read_docstrings
from gnomonic.cli.main import app
from gnomonic.cli.progress import duration
from gnomonic.inference.encoder import TextEncoder

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


def test_the_library_finds_the_exact_nearest(fake_encoder: TextEncoder) -> None:
    texts = ["the fox jumps", "a train to the river", "red stone, blue stone"]
    docstrings = [Docstring(name=f"m.f{index}", text=text) for index, text in enumerate(texts)]
    library = Library(docstrings, fake_encoder)
    assert len(list(library.build())) == 3
    hits = library.search("a fox by the river", count=3)
    query = fake_encoder.encode(["a fox by the river"], task_type="search_query").vectors[0]
    cosines = {docstring.name: cosine for docstring, cosine in hits}
    for index, docstring in enumerate(docstrings):
        assert cosines[docstring.name] == pytest.approx(float(library.vectors[index] @ query), abs=1e-6)
    assert [cosine for _, cosine in hits] == sorted(cosines.values(), reverse=True)
    np.testing.assert_allclose(np.linalg.norm(library.vectors, axis=1), 1, atol=1e-6)
    assert "m.f0" not in [docstring.name for docstring, _ in library.neighbors("m.f0", count=2)]
    assert library.neighbors("absent") == []


def test_square_brackets_are_shown_as_they_are() -> None:
    out = io.StringIO()
    show_answers(Console(file=out, width=100), "what is x[0]?", [(Docstring(name="a.b", text="Return [x]."), 0.5)])
    assert "x[0]?" in out.getvalue()
    assert "Return [x]." in out.getvalue()


def test_the_demo_answers_its_questions(monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder) -> None:
    found = [Docstring(name=f"shutil.f{index}", text=f"the fox and [{index}] the river") for index in range(80)]
    monkeypatch.setattr("gnomonic.cli.docstrings.read_docstrings", lambda: found)
    monkeypatch.setattr("gnomonic.inference.load.load", lambda _model: fake_encoder)
    result = CliRunner().invoke(app, ["demo", "--limit", "40"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("?") >= 6
    assert "40 docstrings" in result.stdout
    assert "where the time went" in result.stdout
    assert "texts/s" in result.stdout


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.84, "0.8 s"), (12.3, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_told_in_the_units_of_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
