"""What every training command does around its stage: settings, processes, progress, the finished model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from gnomonic.training.distributed import World

__all__ = [
    "RunOptions",
    "absolute",
    "absolutes",
    "carry_out",
    "need_torch",
    "read_settings_of",
    "start_of",
    "whole_numbers",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a command does with a stage, whatever the stage is."""

    output: Path
    name: str
    dtype: str
    threads: int
    dry_run: bool


def need_torch() -> None:
    """Check that the extra [train] is installed.

    Raises:
        MissingExtraError: torch or pyarrow is absent.
    """
    from importlib.util import find_spec

    from gnomonic.errors import MissingExtraError

    if find_spec("torch") is None or find_spec("pyarrow") is None:
        raise MissingExtraError("train", needed_for="training")
    # Read by torch's OpenMP when it is loaded: threads that wait without spinning do not slow each other down where
    # other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def absolute(path: str | Path | None) -> str | None:
    """Return a path or pattern that means the same wherever it is read from."""
    return None if path is None else str(Path(path).expanduser().absolute())


def absolutes(paths: Sequence[str] | None) -> list[str] | None:
    """Return the same of several; None for none."""
    return [str(Path(path).expanduser().absolute()) for path in paths] if paths else None


def whole_numbers(option: str, text: str | None) -> list[int] | None:
    """Return the numbers of a list such as "768,256".

    Raises:
        InputError: a part is no whole number.
    """
    from gnomonic.errors import InputError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"{option} {text!r} is not a list of whole numbers; write it as 768,256,64")
    return [int(part) for part in parts]


def start_of(model: str | None) -> str | None:
    """Return what `model.init` says for `--model`: a catalog name as it is, a folder with its whole path."""
    from gnomonic import catalog

    if model is None or model.removeprefix("nomic-ai/") in catalog.known_models():
        return model
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.exists() else model


def read_settings_of(
    cls: type[T], recipe: Path | None, defaults: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[T, Path]:
    """Return a stage's settings and the folder that their paths are relative to.

    Args:
        cls: the stage's settings class.
        recipe: a TOML file, or None.
        defaults: nested tables for a run without a recipe; a recipe says everything itself.
        options: nested tables; None means that the user said nothing.

    Raises:
        InputError: there is neither a recipe nor data.
        ConfigError: a setting is wrong or missing.
    """
    from gnomonic.errors import InputError
    from gnomonic.training.config import read_recipe

    said = _given(options)
    if recipe is None and "data" not in said:
        raise InputError("no data: give --pairs FILE (mlm: --texts FILE), or a recipe that names its data")
    if (said.get("epochs") or 0) > 0:
        said.setdefault("loop", {}).setdefault("max_steps", 0)
    elif said.get("loop", {}).get("max_steps") and "epochs" in {field.name for field in fields(cls)}:  # type: ignore[arg-type]
        said["epochs"] = 0
    config = read_recipe(recipe, cls, defaults={} if recipe else defaults, overrides=said)
    return config, recipe.parent if recipe else Path.cwd()


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is None, and tables that become empty by it."""
    kept = {key: _given(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def carry_out(build: Callable[[World], Any], options: RunOptions) -> None:
    """Build a stage, then train it and write its model, or only show what that would cost.

    Args:
        build: makes the stage of one process; it has `config`, `loop`, `encoder` and `dims` beside what the loop needs.
        options: what to do with it.

    Raises:
        InputError: the dtype is unknown.
        EngineError: the GPU has too little memory.
    """
    import torch

    from gnomonic.errors import EngineError, InputError
    from gnomonic.training import distributed

    if options.dtype not in ("fp32", "fp16", "bf16"):
        raise InputError(f"--dtype {options.dtype!r} is unknown; choose fp32, fp16 or bf16")
    if options.threads:
        torch.set_num_threads(options.threads)
    world = distributed.start()
    try:
        stage = build(world)
        if options.dry_run:
            _report(stage, world)
        else:
            _train(stage, world, options)
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the GPU has too little memory: {str(error).splitlines()[0]}",
            hint="take fewer --chunk-tokens (chunk_tokens in the recipe): what is learnt stays the same",
        ) from error
    finally:
        distributed.stop()


def _report(stage: Any, world: World) -> None:
    from gnomonic.cli.train_show import show_plan
    from gnomonic.training.plan import plan

    found = plan(stage, world)
    if world.rank == 0:
        for line in show_plan(found):
            typer.echo(line)


def _train(stage: Any, world: World, options: RunOptions) -> None:
    from gnomonic.cli.train_show import TrainProgress
    from gnomonic.training import loop
    from gnomonic.training.encoders import save_model
    from gnomonic.training.transfer import mix_in_start

    # Chunks of another size give the same gradient, so a run may go on with less memory than it began with.
    settings = {key: value for key, value in asdict(stage.config).items() if key not in ("loop", "chunk_tokens")}
    # Another share of the start changes the finished model alone, so a run that has ended can write it again.
    del settings["model"]["start_share"]
    share, model = stage.config.model.start_share, stage.encoder.model
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()} if share else {}
    with TrainProgress(stage.loop.max_steps, quiet=world.rank > 0) as progress:
        loop.run(stage, stage.loop, options.output, world=world, on_log=progress.show, settings=settings)
    if world.rank == 0:
        folder = options.output / options.name
        if share:
            mix_in_start(model, start, share)
        save_model(stage.encoder, folder, dims=stage.dims, dtype=options.dtype)
        typer.echo(f"wrote {folder}; try: gnomonic embed texts.txt -o vectors.npy --model {folder}")
