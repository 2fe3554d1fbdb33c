/** The two APIs: what a request says, and what an answer means. A turn has a text, files and an answer. */

import { ApiError } from "./requests.js";

const CUT = "The connection ended before the answer did.";

export const chatCompletions = {
  title: "Chat Completions",
  path: "chat/completions",

  body({ model, instructions, temperature, stream }, turns) {
    const messages = turns.flatMap((turn) => exchange(turn, chatPart));
    if (instructions) messages.unshift({ role: "system", content: instructions });
    return { model, messages, ...temperature, stream, ...(stream && { stream_options: { include_usage: true } }) };
  },

  async readStream(events, answer) {
    for await (const { data } of events) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, chunk.error);
      if (chunk.event) answer.event(chunk.event);
      readCompletion(chunk, answer);
    }
    throw new ApiError(CUT);
  },

  readWhole: readCompletion,
};

function readCompletion({ choices, usage }, answer) {
  for (const { delta, message, finish_reason: reason } of choices ?? []) {
    readMessage(delta ?? message ?? {}, answer);
    if (reason) answer.finish(reason);
  }
  if (usage) answer.usage(usage.prompt_tokens, usage.completion_tokens);
}

function readMessage({ reasoning_content: thought, content, refusal, tool_calls: calls, annotations }, answer) {
  if (thought) answer.reasoning(thought);
  if (content) answer.text(content);
  if (refusal) answer.refusal(refusal);
  (calls ?? []).forEach(({ index, id, function: called, custom }, position) => {
    const { name, arguments: piece, input } = called ?? custom ?? {};
    answer.call(index ?? position, { id, name, piece: piece ?? input });
  });
  for (const { url_citation: source } of annotations ?? []) if (source) answer.source(source);
}

export const responses = {
  title: "Responses",
  path: "responses",

  body({ model, instructions, temperature, stream }, turns) {
    // What the server has kept is named; what came after, or elsewhere, is said again.
    const kept = turns.findLastIndex(({ answer }) => answer.responseId);
    const input = turns.slice(kept + 1).flatMap((turn) => exchange(turn, inputPart));
    const previous = turns[kept]?.answer.responseId;
    return {
      model,
      ...(instructions && { instructions }),
      input,
      ...(previous && { previous_response_id: previous }),
      ...temperature,
      stream,
    };
  },

  async readStream(events, answer) {
    let end = null; // the response, once it is over
    for await (const { data } of events) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.type === "error") throw new ApiError(event.message, event);
      if (event.response && !["queued", "in_progress"].includes(event.response.status)) end = event.response;
      if (event.event) answer.event(event.event);
      EVENTS[event.type]?.(event, answer);
    }
    if (!end) throw new ApiError(CUT);
    readEnd(end, answer);
  },

  readWhole(response, answer) {
    for (const item of response.output) readItem(item, answer);
    readEnd(response, answer);
  },
};

/** What an event adds to an answer. */
const EVENTS = {
  "response.output_text.delta": ({ delta }, answer) => answer.text(delta),
  "response.reasoning_text.delta": ({ delta }, answer) => answer.reasoning(delta),
  "response.reasoning_summary_text.delta": ({ delta }, answer) => answer.reasoning(delta),
  "response.refusal.delta": ({ delta }, answer) => answer.refusal(delta),
  "response.function_call_arguments.delta": (event, answer) => answer.call(event.item_id, { piece: event.delta }),
  "response.output_text.annotation.added": ({ annotation }, answer) => answer.source(annotation),
  "response.output_item.added": ({ item }, answer) => item.type === "function_call" && readItem(item, answer),
  "response.output_item.done": ({ item }, answer) => IN_PIECES.includes(item.type) || readItem(item, answer),
};
const IN_PIECES = ["message", "reasoning", "function_call"];

function readItem(item, answer) {
  switch (item.type) {
    case "message":
      for (const part of item.content) {
        if (part.refusal) answer.refusal(part.refusal);
        if (part.text) answer.text(part.text);
        (part.annotations ?? []).forEach((source) => answer.source(source));
      }
      break;
    case "reasoning":
      for (const { text } of [...item.summary, ...(item.content ?? [])]) answer.reasoning(text);
      break;
    case "function_call":
      answer.call(item.id, { id: item.call_id, name: item.name, piece: item.arguments });
      break;
    case "function_call_output":
      answer.output(item.call_id, item.output);
      break;
    default:
      answer.event({ type: item.type, data: item });
  }
}

function readEnd({ id, status, error, incomplete_details: details, usage, store }, answer) {
  if (error) throw new ApiError(error.message, error);
  if (usage) answer.usage(usage.input_tokens, usage.output_tokens);
  answer.finish(details?.reason ?? status);
  if (store) answer.keptAs(id);
}

/** A turn as messages of either API; an answer without a text is nothing that could be said again. */
function exchange({ text, files, answer }, part) {
  const parts = [...files.map((file) => part(file)), ...(text ? [part(null, text)] : [])];
  const question = { role: "user", content: files.length ? parts : text };
  return answer.said ? [question, { role: "assistant", content: answer.said }] : [question];
}

function chatPart(file, text) {
  if (!file) return { type: "text", text };
  if (file.isImage) return { type: "image_url", image_url: { url: file.data } };
  return { type: "file", file: file.id ? { file_id: file.id } : { filename: file.name, file_data: file.data } };
}

function inputPart(file, text) {
  if (!file) return { type: "input_text", text };
  if (file.isImage) return { type: "input_image", image_url: file.data, detail: "auto" };
  return { type: "input_file", ...(file.id ? { file_id: file.id } : { filename: file.name, file_data: file.data }) };
}
