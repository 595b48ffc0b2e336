"""What the OpenAPI document promises, the server keeps: Schemathesis makes requests from it, good and bad."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.server.live import LiveServer, running

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    options = ("--threads", "2", "--no-access-log", "--data-dir", tmp_path_factory.mktemp("data"))
    with running(*options) as live:
        yield live


def test_every_answer_is_one_that_the_document_names(server: LiveServer) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        good, bad = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

        @settings(
            max_examples=4 if operation.path.startswith("/v1/datasets") else 15,  # most lead to a dataset that is none
            deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=good | bad)
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks, timeout=60)

        ask()
