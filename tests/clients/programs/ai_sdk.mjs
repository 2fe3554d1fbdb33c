// The AI SDK: `generateText` and `streamText` with its OpenAI-compatible provider (chat) and its OpenAI one (responses).

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, isStepCount, streamText, tool, uploadFile } from "ai";
import { z } from "zod";
import {
  BASE_URL,
  BOTH,
  CHAT,
  FAILURE,
  KEY,
  PLAIN,
  RESPONSES,
  THINK,
  TURNS,
  WEATHER,
  problem,
  run,
  scenario,
  weather,
} from "./_report.mjs";

const Place = z.object({ city: z.string(), degrees: z.number().int() });
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: KEY });
const compatible = createOpenAICompatible({
  name: "flaskcompat",
  baseURL: BASE_URL,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});

/** Register what is asked on one surface; *model* gives the model of a name. */
function surface(name, model, known) {
  const asked = (text, more = {}) => ({ model: model(known), prompt: text, maxRetries: 0, ...more });
  const streaming = (text, more = {}) => {
    const thrown = (event) => {
      throw event.error;
    };
    return streamText(asked(text, { onError: thrown, ...more }));
  };

  scenario(`${name} plain`, async () => ({ text: (await generateText(asked(PLAIN))).text }));

  scenario(`${name} streamed`, async () => {
    const pieces = [];
    for await (const piece of streaming(PLAIN).textStream) pieces.push(piece);
    return { text: pieces.join(""), pieces: pieces.length };
  });

  const loop = async (text, generate) => {
    const calls = [];
    const execute = ({ city }) => {
      calls.push(city);
      return weather(city);
    };
    const inputSchema = z.object({ city: z.string() });
    const tools = { weather: tool({ description: "The weather of a city", inputSchema, execute }) };
    const answer = await generate(text, { tools, stopWhen: isStepCount(3) });
    return { text: await answer.text, calls };
  };
  const generating = (text, more) => generateText(asked(text, more));
  scenario(`${name} tools`, () => loop(WEATHER, generating));
  scenario(`${name} tools streamed`, () => loop(WEATHER, streaming));
  scenario(`${name} parallel`, () => loop(BOTH, streaming));

  scenario(`${name} typed`, async () => {
    const output = Output.object({ schema: Place });
    const value = (await generateText(asked(PLAIN, { output }))).output;
    return { value, streamed: await streaming(PLAIN, { output }).output };
  });

  scenario(`${name} reasoning`, async () => {
    const { text, reasoningText } = await generateText(asked(THINK));
    return { text, reasoning: reasoningText };
  });

  scenario(`${name} reasoning streamed`, async () => {
    const found = { text: "", reasoning: "" };
    for await (const part of streaming(THINK).stream) {
      if (part.type === "text-delta") found.text += part.text;
      if (part.type === "reasoning-delta") found.reasoning += part.text;
    }
    return found;
  });

  const numbers = ({ inputTokens, outputTokens }) => ({ input: inputTokens, output: outputTokens });
  scenario(`${name} usage`, async () => numbers((await generateText(asked(PLAIN))).usage));
  scenario(`${name} usage streamed`, async () => numbers(await streaming(PLAIN).usage));

  scenario(`${name} turns`, async () => {
    const messages = [];
    let answer;
    for (const content of TURNS) {
      messages.push({ role: "user", content });
      answer = await generateText({ model: model(known), messages, maxRetries: 0 });
      messages.push(...answer.response.messages);
    }
    return { text: answer.text };
  });

  scenario(`${name} error`, async () => {
    try {
      await generateText({ model: model("no-such-model"), prompt: PLAIN });
    } catch (error) {
      if (!(APICallError.isInstance(error) && error.statusCode === 404 && !error.isRetryable)) throw error;
      return { error: problem(error) };
    }
    return { error: "" };
  });

  scenario(`${name} failure`, async () => {
    const found = { error: "", text: "" };
    for await (const part of streamText(asked(FAILURE, { onError: () => {} })).stream) {
      if (part.type === "text-delta") found.text += part.text;
      if (part.type === "error") found.error = JSON.stringify(part.error);
    }
    return found;
  });
}

surface("chat", compatible, CHAT);
surface("responses", openai, RESPONSES);

scenario("responses file input", async () => {
  const data = Buffer.from("red is the colour");
  const file = await uploadFile({ api: openai.files(), data, mediaType: "text/plain", filename: "note.txt" });
  const content = [
    { type: "text", text: "read this" },
    { type: "file", data: file.providerReference, mediaType: "text/plain", filename: "note.txt" },
  ];
  const { text } = await generateText({ model: openai(RESPONSES), messages: [{ role: "user", content }] });
  return { text };
});

await run();
