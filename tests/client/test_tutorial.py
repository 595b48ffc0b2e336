"""What the tutorial says about its own example is what the bundled model does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gnomonic import embed

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "first-embeddings.md").read_text(encoding="utf-8")


def test_the_lines_lie_next_to_those_the_tutorial_names() -> None:
    notes = re.search(r"notes\.txt`:\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert notes is not None
    vectors = embed.text(notes[1].splitlines())["embeddings"]
    cosines = vectors @ vectors.T - 2 * np.eye(4)
    assert "Line 1 lies nearest to line 3, and line 2 nearest to line 4" in PAGE
    assert cosines.argmax(axis=1).tolist() == [2, 3, 0, 1]


def test_the_question_finds_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"```python\n(from gnomonic import embed\n.*?)```", PAGE, re.DOTALL)
    assert block is not None
    exec(block[1], {})
    first, second = (float(number) for number in capsys.readouterr().out.strip("[]\n ").split())
    assert first > second + 0.1
