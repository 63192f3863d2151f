"""Spans: one a request, named by its route, its stages below it, going on from the client's traceparent."""

import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from recsys.core.errors import CallError
from serving.settings import ServingConfig
from serving.tracing import Tracing, tracing_of
from tests.support.small_shop import Fake, opened, service_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traced() -> tuple[Tracing, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_request_when_traced_then_its_stages_are_below_it_and_it_goes_on_from_the_client(shop: Path) -> None:
    tracing, exporter = traced()
    with opened(shop, Fake(), tracing=tracing) as client:
        client.post("/v1/recommend", json={"user_id": "u"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    spans = by_name(exporter)
    request = spans["POST /v1/recommend"]
    assert format(request.context.trace_id, "032x") == TRACE
    assert format(request.parent.span_id, "016x") == PARENT
    assert request.attributes["http.response.status_code"] == 200
    below = {name: spans[name].parent.span_id for name in ("question", "history", "answer", "model")}
    assert below["question"] == below["answer"] == request.context.span_id
    assert below["history"] == spans["question"].context.span_id
    assert below["model"] == spans["answer"].context.span_id


def test_request_when_no_model_answers_then_the_fallback_has_a_span(shop: Path) -> None:
    tracing, exporter = traced()
    with opened(shop, None, tracing=tracing) as client:
        client.post("/v1/recommend", json={"history": []})
    assert "fallback" in by_name(exporter)


def test_request_when_no_route_or_a_broken_store_answers_then_the_span_says_so(shop: Path) -> None:
    tracing, exporter = traced()
    with opened(shop, Fake(), tracing=tracing) as client:
        client.get("/v1/nothing")
        service_of(client).threads.close()  # whatever is written now is refused
        client.post("/v1/events", json=[])
    spans = by_name(exporter)
    assert spans["GET other"].attributes["http.response.status_code"] == 404
    assert spans["GET other"].status.status_code is StatusCode.UNSET
    assert spans["POST /v1/events"].attributes["http.response.status_code"] == 503
    assert spans["POST /v1/events"].status.status_code is StatusCode.ERROR


def test_tracing_of_when_on_then_needs_the_extra_and_when_off_makes_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tracing_of(ServingConfig()).on
    on = tracing_of(ServingConfig(trace=True))
    assert on.on
    on.close()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CallError, match=r"pip install '\.\[otel\]'"):
        tracing_of(ServingConfig(trace=True))
