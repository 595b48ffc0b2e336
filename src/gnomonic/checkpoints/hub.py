"""From a model's name to its specification and a local folder of verified files."""

from __future__ import annotations

import os
from pathlib import Path

from gnomonic import catalog
from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints import model_cache
from gnomonic.checkpoints.model_cache import OnProgress
from gnomonic.errors import CheckpointError, InputError, UnknownModelError
from gnomonic.settings import Settings

__all__ = ["fetch", "find_model", "locate"]


def _bundled_folder(spec: ModelSpec) -> Path:
    """Return where the package keeps a bundled model.

    Raises:
        CheckpointError: the installation lacks the folder.
    """
    folder = Path(__file__).resolve().parents[1] / "assets" / spec.name
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"the bundled model {spec.name} is not in this installation ({folder} has no config.json)",
            hint="reinstall the package: pip install --force-reinstall gnomonic",
        )
    return folder


def _folder(path: Path) -> tuple[ModelSpec, Path]:
    """Describe a checkpoint folder the user named."""
    if not path.exists():
        raise UnknownModelError(f"model {str(path)!r}: this folder does not exist")
    if not path.is_dir():
        raise UnknownModelError(
            f"model {str(path)!r} is a file; a model is a folder with config.json, tokenizer and safetensors",
            hint=f"pass its folder: {path.parent}",
        )
    from gnomonic.checkpoints import huggingface

    return huggingface.describe(path), path


def _looks_like_path(model: str) -> bool:
    return model.startswith((".", "~")) or "\\" in model or os.sep in model or Path(model).is_absolute()


def find_model(model: str | os.PathLike[str], settings: Settings) -> tuple[ModelSpec, Path]:
    """Find a text model and make its files available, downloading them when they are not here yet.

    A catalog name means the catalog's model even where the working directory has a folder of that name, so that
    the same call gives the same vectors everywhere; write `./NAME` for the folder.

    Args:
        model: a catalog name, with or without `nomic-ai/`, or a folder. A `Path` is always a folder.
        settings: cache folder, offline switch, hub address and token.

    Returns:
        what the model is, and the folder with its files.

    Raises:
        UnknownModelError: neither a catalog name nor an existing folder.
        InputError: the model embeds images, which this release does not.
        CheckpointError: the files cannot be had, or differ from the pinned ones.
    """
    if not isinstance(model, str):
        return _folder(Path(model).expanduser())
    if not model.strip() or "\0" in model:
        raise UnknownModelError(f"model {model!r} is not a name; known models: {', '.join(catalog.known_models())}")
    if model.removeprefix("nomic-ai/") in catalog.known_models():
        spec = catalog.find(model)
        if spec.kind != "text":
            raise InputError(
                f"{spec.name} embeds images, which this release cannot load yet; choose a text model",
                hint="gnomonic models list shows the models and what they embed",
            )
        return spec, fetch(spec, settings)
    try:
        path = Path(model).expanduser()
        if _looks_like_path(model) or path.exists():
            return _folder(path)
    except (OSError, RuntimeError) as error:  # a name too long for a path; ~user without a home
        raise UnknownModelError(f"model {model[:80]!r} cannot be a folder: {error}") from error
    return catalog.find(model), Path()  # not in the catalog: raises, naming close ones


def locate(model: str, settings: Settings) -> tuple[ModelSpec, Path]:
    """Say what a model is and where its files are or would be, without network and without checking them.

    Raises:
        UnknownModelError: neither a catalog name nor an existing folder.
        CheckpointError: the installation lacks the bundled model, or the folder is no checkpoint.
    """
    if model.removeprefix("nomic-ai/") not in catalog.known_models():
        return find_model(model, settings)
    spec = catalog.find(model)
    return spec, _bundled_folder(spec) if spec.bundled else model_cache.folder_of(spec, settings)


def fetch(spec: ModelSpec, settings: Settings, on_progress: OnProgress | None = None, *, force: bool = False) -> Path:
    """Return the folder with a catalog model's files, downloading what is not here yet.

    Args:
        spec: an entry of the catalog.
        settings: cache folder, offline switch, hub address and token.
        on_progress: called with (file, done_bytes, total_bytes) while a file arrives.
        force: download again even if the files are here; they must still match what was pinned.

    Raises:
        CheckpointError: offline and not here; the hub fails; a digest differs; the cache cannot be written.
    """
    if spec.bundled:
        return _bundled_folder(spec)
    if not spec.repo:
        raise CheckpointError(f"{spec.name} has no hub repository; pass the folder that holds its files")
    return model_cache.fetch(spec, settings, on_progress, force=force)
