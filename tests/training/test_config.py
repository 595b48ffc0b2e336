"""Recipes are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnomonic.errors import ConfigError
from gnomonic.training.config import read_recipe

_RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
_LEAST = 'data = ["x"]\nbatch_size = 2\n[loop]\nmax_steps = 1\nlearning_rate = 0.1\n[model]\ntokenizer = "t"\n'


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert read_recipe(path).loop.max_steps > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_LEAST.replace("learning_rate", "learning_rat"), r"loop\.learning_rat: unknown setting; did you mean 'learn"),
        (_LEAST.replace("batch_size = 2", 'batch_size = "2"'), r"batch_size: '2' is a str; it must be int"),
        (_LEAST.replace("batch_size = 2\n", ""), r"batch_size: this setting has no default"),
        (_LEAST.replace("max_steps = 1", "max_steps = 0"), r"max_steps and learning_rate must be positive"),
        (_LEAST.replace("[loop]", '[loop]\nschedule = "cosin"'), r"loop\.schedule: 'cosin' is unknown"),
        (_LEAST.replace("[loop]", "[loop"), r"recipe\.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_recipe(path)


def test_an_absent_recipe_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
