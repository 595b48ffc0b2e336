from __future__ import annotations

import json
from pathlib import Path

import pytest

from gnomonic.errors import CheckpointError, InputError
from gnomonic.evaluation import peers
from gnomonic.evaluation.peers import find_peer, width_of


def test_a_peer_is_a_folder_or_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_peer(f"{tmp_path}/") == (str(tmp_path), tmp_path)
    with pytest.raises(InputError, match="neither a folder nor one of all-MiniLM-L6-v2"):
        find_peer("all-mpnet")
    monkeypatch.setattr(peers, "_PACKAGES", {"Known": ("no_such_module", "no-such-package")})
    with pytest.raises(InputError, match="peer Known is not installed; run: pip install no-such-package"):
        find_peer("known")


def test_the_width_is_the_last_dense_layers_or_the_models(tmp_path: Path) -> None:
    def write(name: str, content: object) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))

    with pytest.raises(CheckpointError, match="is no folder of sentence-transformers"):
        width_of(tmp_path)
    write("config.json", {"hidden_size": 48})
    write("modules.json", [{"type": "sentence_transformers.models.Transformer", "path": ""}])
    assert width_of(tmp_path) == 48
    write("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])
    write("2_Dense/config.json", {"out_features": 16})
    assert width_of(tmp_path) == 16
