from __future__ import annotations

from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomonic.errors import InputError
from gnomonic.server.dialects.nomic_image import parse

_FILES = [b"\x89PNG\r\n\r\n--x", b"", b"\xff\xd8" + bytes(range(256))]


def _request(**form: object) -> tuple[bytes, dict[str, str]]:
    request = httpx.Request("POST", "http://x", **form)  # type: ignore[arg-type]
    return request.read(), {"content-type": request.headers["content-type"]}


def test_files_come_out_byte_for_byte() -> None:
    body, headers = _request(
        files=[("images", ("images", content)) for content in _FILES], data={"model": "nomic-embed-vision-v1"}
    )
    found = parse(body, headers)
    assert found.images == tuple(_FILES)
    assert (found.model, found.urls) == ("nomic-embed-vision-v1", ())


def test_addresses_come_out_in_order() -> None:
    found = parse(*_request(data={"urls": ["http://a/?b=1&c=ü", "http://d"]}))
    assert found.urls == ("http://a/?b=1&c=ü", "http://d")
    assert found.model == "nomic-embed-vision-v1.5"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"{}", "application/json", "is no form"),
        (b"", "multipart/form-data", "without a boundary"),
        (b"", "multipart/form-data; boundary=x", "incomplete"),
        (b"--x\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x", "without a name"),
        (b"--x\r\nabc\r\n--x--", "multipart/form-data; boundary=x", "without an empty line"),
        (b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x--", "multipart/form-data; boundary=x",
         "holds none"),
        (b"model=a", "application/x-www-form-urlencoded", "holds none"),
        (b"urls=a&" * 600, "application/x-www-form-urlencoded", "cannot be read"),
        (b"\xff", "application/x-www-form-urlencoded", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(body, {"content-type": kind})


def test_too_many_and_both_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="too many parts"):
        parse(*_request(files=[("images", b"x")] * 513))
    with pytest.raises(InputError, match="not both"):
        parse(*_request(files=[("images", b"x")], data={"urls": "http://a"}))


@given(body=st.binary(max_size=400), kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data",
                                                           "application/x-www-form-urlencoded", ""]))  # fmt: skip
def test_nothing_else_is_raised(body: bytes, kind: str) -> None:
    for whole in (body, b"--x\r\n" + body + b"\r\n--x--"):
        with suppress(InputError):
            parse(whole, {"content-type": kind})
