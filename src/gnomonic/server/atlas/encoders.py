"""Which models embed the fields of datasets on a server: those it offers, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gnomonic.atlas.embedding import Encode, EncodedChunk
from gnomonic.atlas.options import EmbedOptions
from gnomonic.errors import InputError, UnknownModelError
from gnomonic.types import EmbedRequest, TaskType

if TYPE_CHECKING:
    from gnomonic.inference.encoder import TextEncoder
    from gnomonic.server.service import Service

__all__ = ["EncodeWith", "OfferedModels", "ServedEncoders", "encode_by_service", "encode_in_process"]

EncodeWith = Callable[[str, list[Any], EmbedOptions], EncodedChunk]
"""Embeds texts with the offered model of a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferedModels:
    """The models of a server, by what clients call them."""

    sources: Mapping[str, str]
    """Name → catalog name or folder; the first is the default."""
    forced: str | None = None
    """The one that embeds fields whatever a client asks for; None to refuse others."""
    images: str | None = None
    """What embeds images whatever a client asks for; None to refuse them."""

    def resolve(self, asked: str | None) -> str:
        """Return the name of the model that embeds a field.

        Raises:
            UnknownModelError: it is not offered; other vectors are never made silently.
        """
        if self.forced is not None and asked not in self.sources:
            return self.forced
        name = (asked or next(iter(self.sources))).removeprefix("nomic-ai/")
        if name in self.sources:
            return name
        # A map that was made without a server names the folder of its model.
        for known, source in self.sources.items():
            if asked == source:
                return known
        raise UnknownModelError(
            f"model {name[:100]!r} is not served here; there are: {', '.join(self.sources)}",
            hint=f"start the server with --model {name[:100]}, or with --atlas-model NAME to embed fields with that "
            "one whatever is asked for",
        )

    def warning(self, asked: str | None) -> str | None:
        """Return what a client is to know that asked for a model and gets another; None where it does not."""
        if asked is None or asked.removeprefix("nomic-ai/") in self.sources or self.forced is None:
            return None
        return f"this server embeds fields with {self.forced}, not with {asked[:100]}"


class ServedEncoders:
    """Implements `atlas.encoders.Encoders` with the models of a server."""

    def __init__(self, models: OfferedModels, encode: EncodeWith) -> None:
        """Use `encode` for texts; nothing is opened before the first ones."""
        self._models = models
        self._encode = encode

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        """Return the name of the model that would embed texts.

        Raises:
            InputError: images, which no model here embeds.
            UnknownModelError: the model is not offered.
        """
        if modality == "image" and self._models.images is not None:
            return self._models.images
        if modality != "text":
            raise InputError(
                f"no model of this server embeds {modality}s",
                hint="embed them elsewhere and upload the vectors with the rows, or start the server with "
                "--atlas-images appearance, which goes by colours and edges",
            )
        return self._models.resolve(options.model)

    def open(self, modality: str, options: EmbedOptions) -> Encode:
        """Return what embeds texts.

        Raises:
            InputError: see `model_of`.
        """
        name = self.model_of(modality, options)
        settled = replace(options, model=name)
        if modality == "image":
            return _encode_images

        def encode(values: list[Any], /) -> EncodedChunk:
            return self._encode(name, values, settled)

        return encode


def _encode_images(values: list[Any], /) -> EncodedChunk:
    from gnomonic.inference.appearance import encode_appearance

    return EncodedChunk(vectors=encode_appearance(values))


def encode_by_service(service: Service, loop: asyncio.AbstractEventLoop) -> EncodeWith:
    """Return what embeds with the server's own queue and worker; to be called from other threads than the loop's."""

    def encode(name: str, values: list[Any], options: EmbedOptions) -> EncodedChunk:
        request = EmbedRequest(
            texts=tuple(values), model=name, task_type=TaskType.parse(options.task_type), dim=options.dimensionality
        )
        answer = asyncio.run_coroutine_threadsafe(service.embed(request), loop).result()
        found = answer.embeddings
        return EncodedChunk(vectors=found.vectors, truncated=len(found.truncated))

    return encode


def encode_in_process(
    sources: Mapping[str, str], *, device: str | None, precision: str | None, threads: int | None
) -> EncodeWith:
    """Return what embeds with models opened in this process; for a job's own."""
    opened: dict[str, TextEncoder] = {}

    def encode(name: str, values: list[Any], options: EmbedOptions) -> EncodedChunk:
        from gnomonic.inference.load import load

        if name not in opened:
            opened[name] = load(sources[name], device=device, precision=precision, threads=threads)
        made = opened[name].encode(values, task_type=options.task_type, dim=options.dimensionality)
        return EncodedChunk(vectors=made.vectors, truncated=len(made.truncated))

    return encode
