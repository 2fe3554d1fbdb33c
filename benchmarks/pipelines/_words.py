"""A component that streams as many words as the text asks for."""

from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage, StreamingChunk


@component
class Words:
    @component.output_types(replies=list[ChatMessage])
    def run(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
        for number in range(int(text)):
            streaming_callback(StreamingChunk(f"w{number} "))
        return {"replies": [ChatMessage.from_assistant("")]}

    @component.output_types(replies=list[ChatMessage])
    async def run_async(self, text: str, streaming_callback: Any = None) -> dict[str, Any]:
        for number in range(int(text)):
            await streaming_callback(StreamingChunk(f"w{number} "))
        return {"replies": [ChatMessage.from_assistant("")]}
