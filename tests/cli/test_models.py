from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gnomonic import catalog
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints import hub_client
from gnomonic.cli.golden import write_golden
from gnomonic.cli.main import app
from gnomonic.inference.encoder import TextEncoder
from gnomonic.inference.probes import make_probe
from tests.checkpoints.fake_hub import COMMIT, FILES, REPO, FakeHub, serving
from tests.fakes import FakeEngine

TINY = ModelSpec(name="tiny", hidden_size=32, repo=REPO, revision=COMMIT)


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def _use(monkeypatch: pytest.MonkeyPatch, *specs: ModelSpec) -> None:
    known = {**catalog.known_models(), **{spec.name: spec for spec in specs}}
    monkeypatch.setattr(catalog, "known_models", lambda: known)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    _use(monkeypatch, TINY)
    monkeypatch.setattr(hub_client, "BACKOFF_S", 0.0)
    with serving(FakeHub()) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("GNOMONIC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("GNOMONIC_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


def test_list_shows_every_model_and_its_state(hub: FakeHub) -> None:
    table = _run("list").stdout
    assert all(name in table for name in catalog.known_models())
    models = {model["name"]: model for model in json.loads(_run("list", "--json").stdout)}
    assert models[catalog.DEFAULT_TEXT_MODEL]["state"] == "bundled"
    assert models["tiny"]["state"] == "not here"
    assert models["nomic-embed-vision-v1.5"]["kind"] == "vision"


def test_pull_fetches_and_list_says_so(hub: FakeHub, tmp_path: Path) -> None:
    result = _run("pull", "tiny")
    folder = tmp_path / "cache" / "models" / "tiny"
    assert result.exit_code == 0
    assert str(folder) in result.stdout
    assert "model.safetensors: 3.1 MB" in result.stderr
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    details = json.loads(_run("info", "tiny", "--json").stdout)
    assert (details["state"], details["revision"], details["folder"]) == ("here", COMMIT, str(folder))


def test_pull_offline_ends_with_the_way_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMONIC_OFFLINE", "1")
    result = _run("pull", "tiny")
    assert result.exit_code == 2
    assert "network is switched off" in result.stderr
    assert "hint: on a machine with a network" in result.stderr
    assert hub.requests == []


def test_info_of_an_unknown_model_is_the_callers_mistake(hub: FakeHub) -> None:
    result = _run("info", "tinny")
    assert result.exit_code == 2
    assert "did you mean 'tiny'" in result.stderr


def test_info_of_a_folder_describes_it(tiny_checkpoint: Path) -> None:
    details = json.loads(_run("info", str(tiny_checkpoint), "--json").stdout)
    assert (details["name"], details["hidden_size"], details["dims"]) == ("tiny-text", 32, [32, 16, 8])
    assert details["state"] == "here"
    assert "tiny-text" in _run("info", str(tiny_checkpoint)).stdout


def test_verify_without_stored_vectors_checks_the_files(hub: FakeHub) -> None:
    assert _run("verify", "tiny").exit_code == 2
    _run("pull", "tiny")
    result = _run("verify", "tiny")
    assert result.exit_code == 0
    assert "first download" in result.stdout
    assert "no stored vectors" in result.stdout


def test_verify_finds_a_changed_file_even_where_size_and_time_are_the_same(hub: FakeHub, tmp_path: Path) -> None:
    import os

    _run("pull", "tiny")
    path = tmp_path / "cache" / "models" / "tiny" / "model.safetensors"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = _run("verify", "tiny")
    assert result.exit_code == 1
    assert "CHANGED" in result.stdout
    assert "files differ" in result.stderr


@pytest.fixture
def _loadable(monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder) -> None:
    from gnomonic.inference import load

    def reload(*_args: object, **_options: object) -> TextEncoder:
        return TextEncoder(fake_encoder.spec, fake_encoder.tokenizer, FakeEngine())

    monkeypatch.setattr(load, "load", reload)


@pytest.mark.usefixtures("_loadable")
def test_verify_compares_vectors(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder) -> None:
    _run("pull", "tiny")
    probes = (
        make_probe(fake_encoder, "bread"),
        make_probe(fake_encoder, "blue water", task_type="clustering"),
    )
    _use(monkeypatch, dataclasses.replace(TINY, golden=probes))
    result = _run("verify", "tiny")
    assert result.exit_code == 0
    assert "5 files and 2 vectors are right" in result.stdout


@pytest.mark.usefixtures("_loadable")
def test_verify_ends_with_1_on_a_wrong_vector(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, fake_encoder: TextEncoder
) -> None:
    _run("pull", "tiny")
    wrong = make_probe(fake_encoder, "bread") | {"text": "stone"}
    _use(monkeypatch, dataclasses.replace(TINY, golden=(wrong,)))
    result = _run("verify", "tiny")
    assert result.exit_code == 1
    assert "WRONG" in result.stdout
    assert "vectors differ" in result.stderr


@pytest.mark.usefixtures("_loadable")
def test_golden_writes_what_verify_accepts(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _run("pull", "tiny")
    file = tmp_path / "catalog.toml"
    file.write_text("[tiny]\nhidden_size = 32\n\n[other]\nhidden_size = 1\n")
    assert _run("golden", "tiny", "--write", str(file)).exit_code == 0
    entry = tomllib.loads(file.read_text())["tiny"]
    spec = dataclasses.replace(TINY, files=entry["files"], golden=tuple(entry["golden"]))
    assert set(spec.files) == set(FILES) - {
        "pytorch_model.bin",
        "modeling_hf_nomic_bert.py",
        "onnx/model.onnx",
        "README.md",
    }
    _use(monkeypatch, spec)
    assert _run("verify", "tiny").exit_code == 0


def test_golden_replaces_what_it_wrote_before(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text("# head\n\n[tiny]\nhidden_size = 32\n")
    for digest in ("a", "b"):
        write_golden(file, "tiny", f'["tiny".files]\n"x" = "{digest}"\n')
    write_golden(file, "other", '["other".files]\n"x" = "c"\n')
    write_golden(file, "tiny", '["tiny".files]\n"x" = "d"\n')
    read = tomllib.loads(file.read_text())
    assert read == {"tiny": {"hidden_size": 32, "files": {"x": "d"}}, "other": {"files": {"x": "c"}}}
    assert file.read_text().startswith("# head\n\n[tiny]")
