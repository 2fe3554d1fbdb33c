// Asks a model of a running server with the Vercel AI SDK, on both APIs.
//
// npm install ai @ai-sdk/openai @ai-sdk/openai-compatible
// node examples/ai_sdk_client.mjs [BASE_URL] [CHAT_MODEL] [RESPONSES_MODEL]

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [baseURL = "http://127.0.0.1:1416/v1", chat = "chat_streaming", responses = "response_streaming"] =
  process.argv.slice(2);
const prompt = "Who are you?";

const compatible = createOpenAICompatible({ name: "flaskcompat", baseURL, apiKey: "not-used" });
process.stdout.write("Chat: ");
for await (const text of streamText({ model: compatible(chat), prompt }).textStream) process.stdout.write(text);

const openai = createOpenAI({ baseURL, apiKey: "not-used" });
const { text } = await generateText({ model: openai.responses(responses), prompt });
console.log(`\nResponses: ${text}`);
