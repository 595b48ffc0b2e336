"""`gnomonic map` and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnomonic.cli.main import app

typer_testing = pytest.importorskip("typer.testing")
pytest.importorskip("lancedb")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "birds.csv"
    path.write_text("key,n\n" + "".join(f"k{i},{i / 7}\n" for i in range(30)), encoding="utf-8")
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32))
    return path


def _map(table: Path, *more: str) -> tuple[int, str]:
    root = table.parent
    given = ["map", str(table), "--vectors", str(root / "v.npy"), "--data-dir", str(root / "data"), *more]
    found = typer_testing.CliRunner().invoke(app, given)
    return found.exit_code, found.output


def test_a_file_with_other_rows_is_not_taken_for_the_old_one(table: Path) -> None:
    assert _map(table)[0] == 0
    code, said = _map(table)
    assert code == 0
    assert "has these 30 rows already" in said
    table.write_text(table.read_text(encoding="utf-8").replace("k3,", "kx,"), encoding="utf-8")
    code, said = _map(table)
    assert code != 0
    assert "others than the 30 of birds.csv" in said
    assert _map(table, "--replace")[0] == 0


def test_a_mistake_leaves_no_dataset_behind(table: Path) -> None:
    code, said = _map(table, "--id-field", "kye")
    assert code == 2
    assert "there is no column 'kye'" in said
    np.save(table.parent / "v.npy", np.zeros((29, 6), dtype=np.float32))
    code, said = _map(table, "--id-field", "key")
    assert code == 2
    assert "29 vectors and birds.csv has 30 rows" in said
    assert not (table.parent / "data" / "datasets").exists()


def test_the_folder_one_is_in(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (table.parent / "notes").mkdir()
    (table.parent / "notes" / "a.txt").write_text("one text", encoding="utf-8")
    monkeypatch.chdir(table.parent / "notes")
    np.save(table.parent / "v.npy", np.ones((1, 6), dtype=np.float32))
    found = typer_testing.CliRunner().invoke(
        app, ["map", ".", "--vectors", str(table.parent / "v.npy"), "--data-dir", str(table.parent / "data")]
    )
    assert found.exit_code == 0, found.output
    assert (table.parent / "data" / "datasets" / "local" / "notes").is_dir()


def test_a_map_is_written_as_a_folder_of_pages(table: Path) -> None:
    assert _map(table, "--name", "birds")[0] == 0
    root = table.parent

    def export(*given: str) -> tuple[int, str]:
        call = ["datasets", "export", "birds", "--data-dir", str(root / "data"), *given]
        found = typer_testing.CliRunner().invoke(app, call)
        return found.exit_code, found.output

    code, said = export("--site", str(root / "site"), "--column", "key")
    assert code == 0, said
    assert "http.server" in said
    assert (root / "site" / "index.html").is_file()
    assert b'"n"' not in (root / "site" / "data" / "view.json").read_bytes()
    assert export("--output", str(root / "birds.parquet"))[0] == 0
    code, said = export()
    assert code == 2
    assert "--site" in said
