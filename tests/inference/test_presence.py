from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gnomonic.inference.presence import Presence, presence_of
from gnomonic.settings import Settings, read_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(read_settings(), cache_dir=tmp_path, offline=False)


def test_the_bundled_model_is_here(settings: Settings) -> None:
    found = presence_of("gnomonic-embed-text-mini", replace(settings, offline=True))
    assert found is not None
    assert found.here
    assert 1_000_000 < found.parameters < 50_000_000


@pytest.mark.parametrize("name", ["nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v1.5"])
def test_a_model_that_is_not_downloaded_can_be_fetched_unless_offline(settings: Settings, name: str) -> None:
    assert presence_of(name, settings) == Presence(here=False, parameters=136_731_648)
    assert presence_of(name, replace(settings, offline=True)) is None


def test_a_downloaded_model_is_here(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "nomic-embed-text-v1.5"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    found = presence_of("nomic-embed-text-v1.5", replace(settings, offline=True))
    assert found == Presence(here=True, parameters=136_731_648)


@pytest.mark.parametrize("name", ["no-such-model", "nomic-embed-vision-v1.5", "./no/such/folder", "x" * 5000])
def test_what_cannot_run_here_is_none(settings: Settings, name: str) -> None:
    assert presence_of(name, settings) is None
