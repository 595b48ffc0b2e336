"""A teacher is opened by what it is, and works out each text once, whatever happens to the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gnomonic  # noqa: E402
from gnomonic.catalog import DEFAULT_TEXT_MODEL  # noqa: E402
from gnomonic.errors import CheckpointError, ConfigError  # noqa: E402
from gnomonic.training.teacher import Reading, RememberedTeacher, Teacher, Words, open_teacher  # noqa: E402
from tests.training.conftest import tiny_bert  # noqa: E402


class Counting:
    """Vectors of a text's characters; remembers what it was asked."""

    prefixed = False
    max_tokens = 16

    def __init__(self, name: str = "counting") -> None:
        self.name, self.asked = name, []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        rows = np.array([[len(text), text.count("a") + 1, 1.0, 0.5] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def read(self, texts: Sequence[str]) -> Reading:
        raise NotImplementedError

    def vocabulary(self) -> dict[str, int]:
        return {}

    def words(self) -> Words | None:
        return None


def test_each_text_is_worked_out_once_even_by_another_process(tmp_path: Path) -> None:
    first = Counting()
    texts = ["banana", "čšž", "banana", "x" * 40]
    vectors = RememberedTeacher(first, tmp_path / "v").encode(texts)
    assert first.asked == ["width", "banana", "čšž", "x" * 40]
    np.testing.assert_allclose(vectors, Counting().encode(texts), atol=1e-3)
    again = Counting()
    remembered = RememberedTeacher(again, tmp_path / "v")
    np.testing.assert_array_equal(remembered.encode(texts[::-1]), vectors[::-1])
    remembered.encode(["banana", "new"])
    assert again.asked == ["width", "new"]


@pytest.mark.parametrize("name", ["keys.u64", "vectors.f16"])
def test_what_a_killed_process_left_half_written_is_cut_off(tmp_path: Path, name: str) -> None:
    whole = RememberedTeacher(Counting(), tmp_path).encode(["one", "two", "three"])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-3])
    teacher = Counting()
    np.testing.assert_array_equal(RememberedTeacher(teacher, tmp_path).encode(["one", "two", "three"]), whole)
    assert teacher.asked == ["width", "three"]


def test_the_vectors_of_another_teacher_are_refused(tmp_path: Path) -> None:
    RememberedTeacher(Counting("one"), tmp_path)
    with pytest.raises(CheckpointError, match=r"holds vectors of one, not of other; name another folder"):
        RememberedTeacher(Counting("other"), tmp_path)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = RememberedTeacher(Counting(), tmp_path)
    kept = remembered.encode(["one"])

    def full(self: Path, mode: str = "r", **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        remembered.encode(["two"])
    monkeypatch.undo()
    np.testing.assert_array_equal(RememberedTeacher(Counting(), tmp_path).encode(["one"]), kept)


def test_a_model_of_ours_teaches_with_its_own_vectors(tmp_path: Path) -> None:
    texts = ["the quick brown fox", "a much longer text about foxes and the dogs they jump over", "x"]
    teacher = open_teacher(DEFAULT_TEXT_MODEL, tmp_path)
    prefix = "search_document: "
    found = teacher.encode([prefix + text for text in texts])
    wanted = gnomonic.load(DEFAULT_TEXT_MODEL).encode(texts, task_type="search_document").vectors
    assert teacher.prefixed
    assert (found * wanted).sum(1).min() > 0.999  # bfloat16 products
    _check_reading(teacher, texts, layer_norm=True)


def _check_reading(teacher: Teacher, texts: list[str], *, layer_norm: bool = False) -> None:
    """The states' means are the vectors, and the tokens are the texts'."""
    reading = teacher.read(texts)
    assert len(reading.states) == sum(map(len, reading.tokens))
    means = torch.stack([part.mean(0) for part in torch.split(reading.states, [len(ids) for ids in reading.tokens])])
    if layer_norm:
        means = torch.nn.functional.layer_norm(means, means.shape[1:])
    vectors = torch.nn.functional.normalize(means, dim=1).numpy()
    np.testing.assert_allclose((vectors * reading.vectors).sum(1), 1.0, atol=1e-3)
    names = {index: token for token, index in teacher.vocabulary().items()}
    pieces = [names[index] for index in reading.tokens[-1].tolist()]
    assert "".join(piece.removeprefix("##") for piece in pieces) == f"[CLS]{texts[-1]}[SEP]"


def test_a_sentence_transformers_folder_teaches_and_lends_its_words(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = tiny_bert(tmp_path)
    teacher = open_teacher("bert", tmp_path)
    wanted = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(
        ["cat here", "dog"], normalize_embeddings=True
    )
    assert (teacher.encode(["cat here", "dog"]) * wanted).sum(1).min() > 0.999
    _check_reading(teacher, ["cat here", "the dog is there", "dog"])
    words = teacher.words()
    assert words is not None
    assert words.rows.shape == (len(words.vocabulary), 16)
    assert words.norm[0].shape == words.norm[1].shape == (16,)


def test_an_unknown_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher: 'nobody' is neither a model of the catalog nor a folder"):
        open_teacher("nobody", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"teacher: .*empty is no model"):
        open_teacher("empty", tmp_path)
