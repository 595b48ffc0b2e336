"""The tables of Atlas routes: each names a function that is there, and the OpenAPI document tells of our own."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from gnomonic.server.routes.atlas import is_streamed
from gnomonic.server.routes.atlas_schemas import ATLAS, operation
from gnomonic.server.routes.atlas_table import ROUTES, AtlasRoute


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_names_a_function_of_desk_and_call(route: AtlasRoute) -> None:
    module, _, name = route.target.partition(":")
    found = importlib.import_module(f"gnomonic.server.atlas.{module}")
    assert name in found.__all__
    assert list(inspect.get_annotations(getattr(found, name), eval_str=False))[-1] == "return"
    assert len(inspect.signature(getattr(found, name)).parameters) == 2


def test_our_own_routes_are_described_and_no_others() -> None:
    shown = {(route.method, route.path.replace(":path", "")) for route in ROUTES if route.shown}
    assert shown == ATLAS.keys()
    for method, path in shown:
        made = operation(method, path)
        inside = {one["name"] for one in made["parameters"] if one["in"] == "path"}
        assert inside == set(re.findall(r"{(\w+)}", path))
        assert made["summary"]


@pytest.mark.parametrize(
    ("method", "path", "streamed"),
    [
        ("POST", "/v1/project/data/add/arrow", True),
        ("POST", "/v1/datasets/local/one/rows", True),
        ("PATCH", "/v1/datasets/local/one/rows", False),
        ("POST", "/v1/datasets/local/one/rows/x", False),
        ("POST", "/v1/project/data/get", False),
    ],
)
def test_uploads_go_to_files(method: str, path: str, streamed: bool) -> None:
    assert is_streamed({"method": method, "path": path}) is streamed
