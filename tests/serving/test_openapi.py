"""The OpenAPI document describes the API, and the API answers as described, whatever is sent."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from urllib3 import HTTPResponse

from serving.documents import PROBLEMS
from serving.settings import Keys
from tests.support.small_shop import Fake, make_run, opened

ADMIN = {"X-API-Key": "boss"}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    run = make_run(tmp_path_factory.mktemp("openapi") / "run")
    keys = Keys(clients=frozenset({"client"}), admins=frozenset({"boss"}))
    with opened(run, Fake(), keys=keys) as client:
        client.headers.update(ADMIN)
        yield client


def references(node: Any) -> Iterator[str]:
    """Yield every reference of a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_document_when_read_then_every_reference_resolves(described: TestClient) -> None:
    document = described.get("/openapi.json").json()
    found = set(references(document))
    assert found
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_document_when_read_then_names_the_key_of_every_operation_but_the_open_ones(described: TestClient) -> None:
    document = described.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["ApiKey"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_open = path == "/" or path.startswith("/v2/health/")
            assert operation["security"] == ([] if is_open else [{"ApiKey": []}])
            assert {str(status) for status in PROBLEMS} <= operation["responses"].keys()


@pytest.fixture(scope="module")
def calls(described: TestClient) -> Any:
    """A strategy of calls of every operation, as the document describes them."""
    schema = schemathesis.openapi.from_dict(described.get("/openapi.json").json())
    return st.one_of([result.ok().as_strategy() for result in schema.get_all_operations()])


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_calls_when_made_as_described_then_answers_are_as_described(
    described: TestClient, calls: Any, data: st.DataObject
) -> None:
    case = data.draw(calls)
    sent = requests.Request(**case.as_transport_kwargs(base_url="http://testserver", headers=ADMIN)).prepare()
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body
    answer = described.request(sent.method or "", sent.url or "", content=body, headers=dict(sent.headers))
    case.validate_response(as_requests(answer, sent), checks=CHECKS)


def as_requests(answer: Any, sent: requests.PreparedRequest) -> requests.Response:
    """Return an answer of the test client as the library's checks read it."""
    found = requests.Response()
    found.status_code, found._content, found.request = answer.status_code, answer.content, sent
    found.headers.update(answer.headers)
    found.url, found.raw, found.elapsed = sent.url or "", HTTPResponse(headers=dict(answer.headers)), timedelta(0)
    found.raw.version = 11
    return found
