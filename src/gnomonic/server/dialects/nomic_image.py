"""Nomic's image embedding API: `POST /v1/embedding/image`, files or addresses in a form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from gnomonic.catalog import DEFAULT_VISION_MODEL
from gnomonic.errors import InputError
from gnomonic.server.dialects.reading import split_model

__all__ = ["ImageRequest", "form_parts", "parse"]

_MAX_IMAGES = 512
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRequest:
    """Images to embed: files or addresses, never both."""

    model: str
    images: tuple[bytes, ...] = ()
    """Encoded, as they came."""
    urls: tuple[str, ...] = ()


def parse(body: bytes, headers: Mapping[str, str]) -> ImageRequest:
    """Read a form: `multipart/form-data` with files called `images`, or urlencoded with `urls`; `model` in both.

    Raises:
        InputError: it is no form, holds no image, too many, or both kinds.
        UnknownModelError: no name of a model.
    """
    kind = headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        fields = form_parts(body, kind)
        images, urls = fields.get("images", []), [url.decode("utf-8", "replace") for url in fields.get("urls", [])]
        model = b"".join(fields.get("model", [])[:1]).decode("utf-8", "replace")
    elif kind.lower().startswith("application/x-www-form-urlencoded"):
        form = _form(body)
        images, urls, model = [], form.get("urls", []), "".join(form.get("model", [])[:1])
    else:
        raise InputError(
            f"Content-Type {kind[:80]!r} is no form; send files as multipart/form-data, or urls as "
            "application/x-www-form-urlencoded"
        )
    if images and urls:
        raise InputError("images and urls: send files or addresses, not both")
    if not images and not urls:
        raise InputError("images: the form holds none; add files called images, or fields called urls")
    if len(images) + len(urls) > _MAX_IMAGES:
        raise InputError(f"images: {len(images) + len(urls)} are more than {_MAX_IMAGES}; send several requests")
    return ImageRequest(model=split_model(model or DEFAULT_VISION_MODEL)[0], images=tuple(images), urls=tuple(urls))


def _form(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_IMAGES + 8)
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"the form cannot be read: {error}; encode it as application/x-www-form-urlencoded") from error


def form_parts(body: bytes, kind: str) -> dict[str, list[bytes]]:
    """Return the contents of a form's parts by name (RFC 7578).

    Args:
        body: of the request.
        kind: its Content-Type, multipart/form-data.

    Raises:
        InputError: it cannot be read.
    """
    found = _BOUNDARY.search(kind)
    if found is None:
        raise InputError("Content-Type: multipart/form-data without a boundary; let the HTTP library write this header")
    marker = b"\r\n--" + (found[1] or found[2]).encode()
    fields: dict[str, list[bytes]] = {}
    for head, content in _pieces(b"\r\n" + body, marker):
        name = _NAME.search(head)
        if name is None:
            raise InputError("the form has a part without a name")
        fields.setdefault(name[1].decode("utf-8", "replace"), []).append(content)
        if len(fields) > 16 or len(fields.get("images", ())) > _MAX_IMAGES:
            raise InputError(f"the form has too many parts; send at most {_MAX_IMAGES} images a request")
    return fields


def _pieces(body: bytes, marker: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield head and content of each part; the text before the first marker and after the last is not part of it."""
    at = body.find(marker)
    while at >= 0:
        begin = at + len(marker)
        if body.startswith(b"--", begin):
            return
        end = body.find(marker, begin)
        if end < 0:
            break
        head, blank, content = body[begin:end].partition(b"\r\n\r\n")
        if not blank:
            raise InputError("the form has a part without an empty line after its head")
        yield head, content
        at = end
    raise InputError("the form ends before its last boundary; the request is incomplete")
