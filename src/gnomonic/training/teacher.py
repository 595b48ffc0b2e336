"""Models to learn from, and their vectors kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gnomonic import catalog
from gnomonic.errors import CheckpointError, ConfigError, MissingExtraError
from gnomonic.models.pooling import mean_pool
from gnomonic.training.config import ModelConfig
from gnomonic.training.encoders import TrainedEncoder, build_model, pack, split_by_length, tokenise, training_device

__all__ = ["Reading", "RememberedTeacher", "Teacher", "Words", "open_teacher"]

# Tokens that go through a teacher of ours at once: enough for large products, little beside a training step.
_CHUNK_TOKENS = 8192
# A peer pads its groups to the longest text: small ones pad less, and their products are as fast from here on.
_GROUP_TOKENS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A teacher's word table, for a student that starts from it."""

    rows: NDArray[np.float32]
    """[vocabulary, width] float32: what a word's embedding is before the first layer norm, positions averaged."""
    vocabulary: dict[str, int]
    """Row of each token."""
    norm: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Weight and bias of that layer norm, each [width]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a teacher makes of some texts, token by token."""

    vectors: NDArray[np.float32]
    """[texts, dim], rows of unit length."""
    tokens: list[NDArray[np.int32]]
    """Its own ids per text, special tokens included."""
    states: Tensor
    """[tokens, dim] float32: its last layer, the texts laid end to end."""


class Teacher(Protocol):
    """A finished model."""

    name: str
    prefixed: bool
    """Whether it was trained with the four task prefixes and wants them in front."""
    max_tokens: int
    """Longest text it reads."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [n, dim] float32, rows of unit length."""
        ...

    def read(self, texts: Sequence[str]) -> Reading:
        """Return the vectors with the tokens and the states they are the means of."""
        ...

    def vocabulary(self) -> dict[str, int]:
        """Return the id of every token."""
        ...

    def words(self) -> Words | None:
        """Return its word table where it has one of BERT's kind."""
        ...


class _SentenceTransformersTeacher:
    prefixed = False

    def __init__(self, folder: Path) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError(
                "train", needed_for=f"the teacher {folder}, a sentence-transformers model"
            ) from error
        self.name = folder.name
        self._model: Any = SentenceTransformer(str(folder), device=str(training_device()), local_files_only=True)
        self.max_tokens = int(self._model.max_seq_length or 512)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run(texts, self._tokenise(texts), None)

    def read(self, texts: Sequence[str]) -> Reading:
        tokens = self._tokenise(texts)
        states: list[Tensor] = [torch.empty(0)] * len(texts)
        vectors = self._run(texts, tokens, states)
        return Reading(vectors=vectors, tokens=tokens, states=torch.cat(states))

    def vocabulary(self) -> dict[str, int]:
        return dict(self._model.tokenizer.get_vocab())

    def _tokenise(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        found = self._model.tokenizer(
            [text.strip() for text in texts], truncation=True, max_length=self.max_tokens, return_attention_mask=False
        )
        return [np.array(ids, np.int32) for ids in found["input_ids"]]

    def _run(
        self, texts: Sequence[str], tokens: Sequence[NDArray[np.int32]], states: list[Tensor] | None
    ) -> NDArray[np.float32]:
        """Encode groups of similar lengths, which pads little; fill in `states` where they are wanted."""
        device = training_device()
        vectors: NDArray[np.float32] | None = None
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16):
            for group in split_by_length([len(ids) for ids in tokens], _GROUP_TOKENS):
                padded = self._model.tokenizer.pad(
                    {"input_ids": [tokens[i].tolist() for i in group]}, return_tensors="pt"
                )
                found = self._model({name: value.to(device) for name, value in padded.items()})
                rows = F.normalize(found["sentence_embedding"].float(), dim=1).cpu().numpy()
                if vectors is None:
                    vectors = np.empty((len(texts), rows.shape[1]), np.float32)
                vectors[group] = rows
                if states is not None:
                    for i, hidden in zip(group, found["token_embeddings"].float(), strict=True):
                        states[i] = hidden[: len(tokens[i])]
        assert vectors is not None, "no texts"
        return vectors

    def words(self) -> Words | None:
        inner = getattr(self._model[0], "auto_model", None)
        table = getattr(inner, "embeddings", None)
        if table is None or not hasattr(table, "position_embeddings") or not hasattr(table, "LayerNorm"):
            return None
        with torch.no_grad():
            shared = table.token_type_embeddings.weight[0] + table.position_embeddings.weight[1:65].mean(0)
            rows = (table.word_embeddings.weight + shared).float().cpu().numpy()
            norm = tuple(x.detach().float().cpu().numpy() for x in (table.LayerNorm.weight, table.LayerNorm.bias))
        return Words(rows=rows, vocabulary=dict(self._model.tokenizer.get_vocab()), norm=(norm[0], norm[1]))


class _OwnTeacher:
    def __init__(self, encoder: TrainedEncoder, name: str) -> None:
        self.name = name
        self.prefixed = bool(encoder.spec.prefixes)
        self.max_tokens = encoder.spec.max_tokens
        self._encoder = encoder
        self._model = encoder.model.to(training_device()).eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._run(tokenise(self._encoder.tokenizer, texts, self.max_tokens)[0], None)

    def read(self, texts: Sequence[str]) -> Reading:
        tokens, _ = tokenise(self._encoder.tokenizer, texts, self.max_tokens)
        states: list[Tensor] = [torch.empty(0)] * len(texts)
        vectors = self._run(tokens, states)
        return Reading(vectors=vectors, tokens=tokens, states=torch.cat(states))

    def vocabulary(self) -> dict[str, int]:
        return self._encoder.tokenizer.vocabulary

    def _run(self, sequences: Sequence[NDArray[np.int32]], states: list[Tensor] | None) -> NDArray[np.float32]:
        device = training_device()
        vectors = np.empty((len(sequences), self._encoder.spec.hidden_size), np.float32)
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16):
            for chunk in split_by_length([len(ids) for ids in sequences], _CHUNK_TOKENS):
                packed = pack([sequences[i] for i in chunk]).to(device)
                found = self._model(packed.input_ids, packed.lengths)
                pooled = mean_pool(found, packed.lengths)
                if states is not None:
                    for i, rows in zip(chunk, torch.split(found.float(), packed.lengths), strict=True):
                        states[i] = rows
                if self._encoder.spec.layer_norm:
                    pooled = F.layer_norm(pooled, pooled.shape[1:], eps=1e-5)
                vectors[chunk] = F.normalize(pooled, dim=1).cpu().numpy()
        return vectors

    def words(self) -> Words | None:
        return None


def open_teacher(name: str, folder: Path) -> Teacher:
    """Open the model that a recipe calls its teacher.

    Args:
        name: a model of the catalog, a model folder of ours, or a sentence-transformers folder.
        folder: what a relative path starts at.

    Raises:
        ConfigError: there is no such model or folder.
        CheckpointError: the folder cannot be read.
        MissingExtraError: it needs sentence-transformers, which is not installed.
    """
    path = (folder / name).expanduser()
    known = name.removeprefix("nomic-ai/") in catalog.known_models()
    if not known and not path.is_dir():
        raise ConfigError(f"teacher: {name!r} is neither a model of the catalog nor a folder ({path})")
    if known or _kind(path) == "nomic_bert":
        return _OwnTeacher(build_model(ModelConfig(init=name if known else str(path.resolve())), folder), name)
    try:
        return _SentenceTransformersTeacher(path)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"teacher: {path} is no model that sentence-transformers opens: {error}") from error


def _kind(folder: Path) -> str:
    """Return the `model_type` of a folder's config.json, or nothing."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(found)


class RememberedTeacher:
    """A teacher that works each text out once; its vectors are kept in a folder as float16.

    The folder holds `keys.u64` (eight bytes of BLAKE2b per text) and `vectors.f16` (rows in the same order). A call
    adds its vectors first and its keys after, so what a killed process left half-written is cut off at the next start,
    and a run that goes on sees the same vectors, bit for bit, as one that never stopped.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        """Open or make the folder.

        Args:
            teacher: the model.
            folder: for its vectors alone.

        Raises:
            CheckpointError: the folder holds another teacher's vectors or cannot be written.
        """
        self.teacher = teacher
        self.dim = teacher.encode(["width"]).shape[1]
        self._keys, self._vectors = folder / "keys.u64", folder / "vectors.f16"
        owner, mine = folder / "teacher.txt", f"{teacher.name} {self.dim} {teacher.max_tokens}\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not owner.is_file():
                owner.write_text(mine, encoding="utf-8")
            elif owner.read_text(encoding="utf-8") != mine:
                raise CheckpointError(
                    f"cache: {folder} holds vectors of {owner.read_text(encoding='utf-8').split()[0]}, "
                    f"not of {teacher.name}; name another folder"
                )
            self._cut_to_whole_rows()
        except OSError as error:
            raise CheckpointError(
                f"cache: {folder} cannot be written: {error.strerror}; name another folder"
            ) from error
        keys = np.fromfile(self._keys, np.uint64)
        self._row = dict(zip(keys.tolist(), range(len(keys)), strict=True))

    def _cut_to_whole_rows(self) -> None:
        self._keys.touch()
        self._vectors.touch()
        row = 2 * self.dim
        count = min(self._keys.stat().st_size // 8, self._vectors.stat().st_size // row)
        for path, size in ((self._keys, 8 * count), (self._vectors, row * count)):
            with path.open("r+b") as file:
                file.truncate(size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [n, dim] float32, rows of unit length up to float16's rounding; only one thread may call.

        Raises:
            CheckpointError: the vectors cannot be written.
        """
        digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
        keys = [int.from_bytes(digest, "little") for digest in digests]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._row}
        if missing:
            self._append(list(missing), self.teacher.encode(list(missing.values())))
        stored = np.memmap(self._vectors, np.float16, "r").reshape(-1, self.dim)
        return stored[[self._row[key] for key in keys]].astype(np.float32)

    def _append(self, keys: list[int], vectors: NDArray[np.float32]) -> None:
        try:
            for path, data in ((self._vectors, vectors.astype(np.float16)), (self._keys, np.array(keys, np.uint64))):
                with path.open("ab") as file:
                    file.write(data.tobytes())
        except OSError as error:
            raise CheckpointError(f"cache: {self._vectors.parent} cannot be written: {error.strerror}") from error
        first = len(self._row)
        self._row.update(zip(keys, range(first, first + len(keys)), strict=True))
