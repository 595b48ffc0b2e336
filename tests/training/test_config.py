"""Recipes are read strictly, and options and defaults go over and under them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from gnomonic.errors import ConfigError
from gnomonic.training.config import ModelConfig, read_recipe
from gnomonic.training.contrastive import ContrastiveConfig
from gnomonic.training.distill import DistillConfig
from gnomonic.training.mlm import MlmConfig

_RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
_LEAST = 'data = ["x"]\nbatch_size = 2\n[loop]\nmax_steps = 1\nlearning_rate = 0.1\n[model]\ntokenizer = "t"\n'


def _stage_of(path: Path) -> type[Any]:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    return DistillConfig if "teacher" in raw else MlmConfig if "window_tokens" in raw else ContrastiveConfig


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert read_recipe(path, _stage_of(path)).loop.learning_rate > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_LEAST.replace("learning_rate", "learning_rat"), r"loop\.learning_rat: unknown setting; did you mean 'learn"),
        (_LEAST.replace("batch_size = 2", 'batch_size = "2"'), r"batch_size: '2' is a str; it must be int"),
        (_LEAST.replace("batch_size = 2\n", ""), r"batch_size: this setting has no default"),
        (_LEAST.replace("max_steps = 1", "max_steps = -1"), r"max_steps: -1 is negative"),
        (_LEAST.replace("[loop]", '[loop]\nschedule = "cosin"'), r"loop\.schedule: 'cosin' is unknown"),
        (_LEAST.replace("[model]", "[model]\nhidden_size = 0"), r"model\.hidden_size: 0 is too small"),
        (_LEAST.replace("[model]", '[model]\nhidden_size = "8"'), r"model\.hidden_size: '8' is a str; it must be int"),
        (_LEAST.replace("[loop]", "[loop"), r"recipe\.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_recipe(path, ContrastiveConfig)


def test_an_absent_recipe_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml", ContrastiveConfig)


def test_options_go_over_a_recipe_and_defaults_under_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(_LEAST, encoding="utf-8-sig")
    defaults = {"batch_size": 9, "query_tokens": 77, "loop": {"schedule": "linear", "learning_rate": 1.0}}
    overrides = {"model": {"init": "m"}, "loop": {"max_steps": 5}}
    config = read_recipe(path, ContrastiveConfig, defaults=defaults, overrides=overrides)
    assert (config.batch_size, config.query_tokens) == (2, 77)
    assert (config.loop.schedule, config.loop.learning_rate, config.loop.max_steps) == ("linear", 0.1, 5)
    assert config.model == ModelConfig(init="m", tokenizer="t")


def test_settings_without_a_recipe_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^data: this setting has no default"):
        read_recipe(None, ContrastiveConfig, defaults={"batch_size": 1, "model": {}, "loop": {"learning_rate": 1.0}})
