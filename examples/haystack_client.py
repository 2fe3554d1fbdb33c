"""Asks a model of a running server with Haystack's own OpenAI generator.

python examples/haystack_client.py [BASE_URL] [MODEL]
"""

import sys

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.utils import Secret

QUESTION = "Who are you?"


def print_chunk(chunk: StreamingChunk) -> None:
    print(chunk.content, end="", flush=True)


def main(base_url: str = "http://127.0.0.1:1416/v1/", model: str = "chat_streaming") -> None:
    client = OpenAIChatGenerator(
        model=model,
        api_key=Secret.from_token("not-used"),
        api_base_url=base_url,
        streaming_callback=print_chunk,
    )
    print("Streamed: ", end="")
    result = client.run([ChatMessage.from_user(QUESTION)])
    print(f"\nWhole: {result['replies'][0].text}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
