"""Spans of OpenTelemetry: one a request and one a stage, where they are switched on, and nothing otherwise."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.core.errors import CallError
from serving.settings import ServingConfig

_SERVICE = "recsys"


class Tracing:
    """Makes spans; those of a request go on from the ``traceparent`` that its client sent.

    Args:
        provider: OpenTelemetry's tracer provider; None makes no spans.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer(_SERVICE)

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """Return a span around a part of an answer."""
        if self._tracer is None:
            return nullcontext()
        found: AbstractContextManager[Any] = self._tracer.start_as_current_span(name)
        return found

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    def request(self, scope: Scope) -> AbstractContextManager[Any]:
        """Return the span around a request."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert self._tracer is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = TraceContextTextMapPropagator().extract(headers)
        kind = trace.SpanKind.SERVER
        found: AbstractContextManager[Any] = self._tracer.start_as_current_span(
            scope["method"], context=context, kind=kind
        )
        return found

    def close(self) -> None:
        """Send what waits to be sent."""
        if self._provider is not None:
            self._provider.shutdown()


class Traced:
    """ASGI middleware that makes a span of each request, named by its route; a 5xx is an error.

    Args:
        app: what answers.
        tracing: that is on.
        route_of: the path template of a request, for those that no route saw.
    """

    def __init__(self, app: ASGIApp, *, tracing: Tracing, route_of: Callable[[Scope], str]) -> None:
        self._app, self._tracing, self._route_of = app, tracing, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request under its span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import Status, StatusCode

        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        with self._tracing.request(scope) as span:
            try:
                await self._app(scope, receive, send_and_note)
            finally:
                method, route = scope["method"], getattr(scope.get("route"), "path", None) or self._route_of(scope)
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))


def tracing_of(config: ServingConfig) -> Tracing:
    """Return what makes spans: none, or those that go where the ``OTEL_*`` variables say, by OTLP over HTTP.

    Raises:
        CallError: spans are wanted and OpenTelemetry is not installed.
    """
    if not config.trace:
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise CallError(
            f"trace needs OpenTelemetry, which is not installed ({error}); `pip install '.[otel]'` or leave it out"
        ) from error
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: _SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
