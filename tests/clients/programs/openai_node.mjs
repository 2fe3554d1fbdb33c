// OpenAI's own client for Node: plain calls, streams, its helpers for streams and typed answers, its loops for tools.

import OpenAI, { APIError, NotFoundError, toFile } from "openai";
import { ResponsesToolRunner, runnerFunction } from "openai/helpers/responses-tool-runner";
import { zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
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

const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0 });
const City = z.object({ city: z.string() });
const Place = z.object({ city: z.string(), degrees: z.number().int() });
const user = (content) => [{ role: "user", content }];

// -- Chat Completions --------------------------------------------------------------------------------------

const chat = (text, more = {}) => ({ model: CHAT, messages: user(text), ...more });

scenario("chat plain", async () => {
  const answer = await client.chat.completions.create(chat(PLAIN));
  return { text: answer.choices[0].message.content };
});

scenario("chat streamed", async () => {
  const pieces = [];
  for await (const chunk of await client.chat.completions.create(chat(PLAIN, { stream: true }))) {
    if (chunk.choices[0].delta.content) pieces.push(chunk.choices[0].delta.content);
  }
  return { text: pieces.join(""), pieces: pieces.length };
});

async function chatLoop(text, stream) {
  const calls = [];
  const tool = {
    name: "weather",
    description: "The weather of a city",
    parameters: z.toJSONSchema(City),
    parse: (text) => City.parse(JSON.parse(text)),
    function: ({ city }) => {
      calls.push(city);
      return weather(city);
    },
  };
  const runner = client.chat.completions.runTools(
    chat(text, { tools: [{ type: "function", function: tool }], ...(stream && { stream }) }),
  );
  return { text: await runner.finalContent(), calls };
}

scenario("chat tools", () => chatLoop(WEATHER, false));
scenario("chat tools streamed", () => chatLoop(WEATHER, true));
scenario("chat parallel", () => chatLoop(BOTH, true));

scenario("chat typed", async () => {
  const asked = chat(PLAIN, { response_format: zodResponseFormat(Place, "place") });
  const value = (await client.chat.completions.parse(asked)).choices[0].message.parsed;
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  return { value, streamed: streamed.choices[0].message.parsed };
});

scenario("chat reasoning", async () => {
  const { message } = (await client.chat.completions.create(chat(THINK))).choices[0];
  return { text: message.content, reasoning: message.reasoning_content };
});

scenario("chat reasoning streamed", async () => {
  let [text, reasoning] = ["", ""];
  for await (const chunk of await client.chat.completions.create(chat(THINK, { stream: true }))) {
    text += chunk.choices[0].delta.content ?? "";
    reasoning += chunk.choices[0].delta.reasoning_content ?? "";
  }
  return { text, reasoning };
});

const chatUsage = (usage) => ({ input: usage.prompt_tokens, output: usage.completion_tokens });

scenario("chat usage", async () => chatUsage((await client.chat.completions.create(chat(PLAIN))).usage));

scenario("chat usage streamed", async () => {
  const asked = chat(PLAIN, { stream_options: { include_usage: true } });
  return chatUsage((await client.chat.completions.stream(asked).finalChatCompletion()).usage);
});

scenario("chat turns", async () => {
  const messages = [];
  for (const text of TURNS) {
    messages.push(...user(text));
    const answer = await client.chat.completions.create({ model: CHAT, messages });
    messages.push(answer.choices[0].message);
  }
  return { text: messages.at(-1).content };
});

async function refused(asking) {
  try {
    await asking();
  } catch (error) {
    if (!(error instanceof NotFoundError && error.code === "model_not_found" && error.requestID)) throw error;
    return { error: problem(error) };
  }
  return { error: "" };
}

scenario("chat error", () =>
  refused(() => client.chat.completions.create({ model: "no-such-model", messages: user(PLAIN) })),
);

async function failed(told) {
  const found = { error: "", text: "" };
  try {
    await told(found);
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    found.error = problem(error);
  }
  return found;
}

scenario("chat failure", () =>
  failed(async (found) => {
    const stream = client.chat.completions.stream(chat(FAILURE));
    stream.on("content", (piece) => (found.text += piece));
    await stream.finalChatCompletion();
  }),
);

// -- Responses ---------------------------------------------------------------------------------------------

const response = (input, more = {}) => ({ model: RESPONSES, input, ...more });

scenario("responses plain", async () => ({ text: (await client.responses.create(response(PLAIN))).output_text }));

scenario("responses streamed", async () => {
  const pieces = [];
  for await (const event of await client.responses.create(response(PLAIN, { stream: true }))) {
    if (event.type === "response.output_text.delta") pieces.push(event.delta);
  }
  return { text: pieces.join(""), pieces: pieces.length };
});

async function responseLoop(text, stream) {
  const calls = [];
  const tool = zodResponsesFunction({
    name: "weather",
    parameters: City,
    function: ({ city }) => {
      calls.push(city);
      return weather(city);
    },
  });
  const runner = new ResponsesToolRunner({ functions: [runnerFunction(tool)] });
  const answer = await runner.run(client, response(user(text)), { stream });
  return { text: answer.output_text, calls };
}

scenario("responses tools", () => responseLoop(WEATHER, false));
scenario("responses tools streamed", () => responseLoop(WEATHER, true));
scenario("responses parallel", () => responseLoop(BOTH, true));

scenario("responses typed", async () => {
  const asked = response(PLAIN, { text: { format: zodTextFormat(Place, "place") } });
  const value = (await client.responses.parse(asked)).output_parsed;
  return { value, streamed: (await client.responses.stream(asked).finalResponse()).output_parsed };
});

const thoughts = (answer) =>
  answer.output.flatMap((item) => (item.type === "reasoning" ? item.summary.map((part) => part.text) : [])).join("");

scenario("responses reasoning", async () => {
  const answer = await client.responses.create(response(THINK));
  return { text: answer.output_text, reasoning: thoughts(answer) };
});

scenario("responses reasoning streamed", async () => {
  let reasoning = "";
  const stream = client.responses.stream(response(THINK));
  stream.on("response.reasoning_summary_text.delta", (event) => (reasoning += event.delta));
  const answer = await stream.finalResponse();
  return { text: answer.output_text, reasoning: reasoning === thoughts(answer) ? reasoning : "differs" };
});

const responseUsage = (usage) => ({ input: usage.input_tokens, output: usage.output_tokens });

scenario("responses usage", async () => responseUsage((await client.responses.create(response(PLAIN))).usage));

scenario("responses usage streamed", async () =>
  responseUsage((await client.responses.stream(response(PLAIN)).finalResponse()).usage),
);

scenario("responses turns", async () => {
  let last;
  for (const text of TURNS) last = await client.responses.create(response(text, { previous_response_id: last?.id }));
  return { text: last.output_text };
});

scenario("responses error", () =>
  refused(() => client.responses.create({ model: "no-such-model", input: PLAIN })),
);

scenario("responses failure", () =>
  failed(async (found) => {
    const stream = client.responses.stream(response(FAILURE));
    stream.on("response.output_text.delta", (event) => (found.text += event.delta));
    await stream.finalResponse();
  }),
);

// -- the rest ----------------------------------------------------------------------------------------------

const note = async () =>
  client.files.create({ file: await toFile(Buffer.from("red is the colour"), "note.txt"), purpose: "user_data" });

scenario("api models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push((await client.models.retrieve(model.id)).id);
  return { ids };
});

scenario("api files", async () => {
  const file = await note();
  const listed = [];
  for await (const known of client.files.list()) listed.push(known.id);
  const content = await (await client.files.content(file.id)).text();
  return { content, listed: listed.includes(file.id), deleted: (await client.files.delete(file.id)).deleted };
});

scenario("responses file input", async () => {
  const parts = [
    { type: "input_text", text: "read this" },
    { type: "input_file", file_id: (await note()).id },
  ];
  return { text: (await client.responses.create(response([{ role: "user", content: parts }]))).output_text };
});

await run();
