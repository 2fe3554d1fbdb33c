"""Asks a model of a running server with LangChain, on both APIs.

pip install langchain-openai; python examples/langchain_client.py [BASE_URL] [CHAT_MODEL] [RESPONSES_MODEL]
"""

import sys

from langchain_openai import ChatOpenAI


def main(
    base_url: str = "http://127.0.0.1:1416/v1",
    chat_model: str = "chat_streaming",
    responses_model: str = "response_streaming",
) -> None:
    chat = ChatOpenAI(model=chat_model, base_url=base_url, api_key="not-used")
    print("Chat:", "".join(chunk.text for chunk in chat.stream("Who are you?")))
    responses = ChatOpenAI(model=responses_model, base_url=base_url, api_key="not-used", use_responses_api=True)
    print("Responses:", responses.invoke("Who are you?").text)


if __name__ == "__main__":
    main(*sys.argv[1:4])
