"""An application whose requests are traced with OpenTelemetry, down to the components of its pipelines.

flask --app examples/opentelemetry_app run

Needs OpenTelemetry: pip install opentelemetry-haystack opentelemetry-instrumentation-flask. Spans go to stderr; a
collector gets them by BatchSpanProcessor(OTLPSpanExporter()) of opentelemetry-exporter-otlp. Haystack
writes the inputs of a run into its span; what components get and give only with HAYSTACK_CONTENT_TRACING_ENABLED=true.
"""

import sys
from typing import Any

from flask import Flask
from haystack import Pipeline, component, tracing
from haystack.dataclasses import StreamingChunk
from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from flaskcompat import FlaskCompat


@component
class Writer:
    """Stands for a chat generator."""

    @component.output_types(text=str)
    def run(self, text: str, streaming_callback: Any = None) -> dict[str, str]:
        for word in (words := f"You said: {text}").split(" "):
            if streaming_callback is not None:
                streaming_callback(StreamingChunk(f"{word} "))
        return {"text": words}


def create_app(provider: TracerProvider | None = None) -> Flask:
    if provider is None:
        provider = TracerProvider(resource=Resource({"service.name": "models"}))
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
        trace.set_tracer_provider(provider)
    app = Flask(__name__)
    FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    # Runs of pipelines carry the context of their request, wherever they run: their spans are below its span.
    tracing.enable_tracing(OpenTelemetryTracer(provider.get_tracer("haystack")))
    pipeline = Pipeline()
    pipeline.add_component("writer", Writer())
    FlaskCompat(app).registry.add("writer", pipeline)
    return app
