/** A request as a command for a shell, and as a program. Files are read from the folder that either runs in. */

import { BASE } from "./requests.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell

/** The files whose bytes are in the request. */
export function inlineFiles({ body, files }) {
  const said = JSON.stringify(body);
  return files.filter((file) => said.includes(JSON.stringify(file.data)));
}

export function asCurl(request) {
  const { path, body, hasKey } = request;
  const files = inlineFiles(request);
  let json = quoted(JSON.stringify(body, null, 2));
  for (const { name, base64 } of files) {
    json = json.replaceAll(`;base64,${base64}"`, () => `;base64,'"$(base64 < ${quoted(name)} | tr -d '\\n')"'"`);
  }
  const lines = [
    `curl ${body.stream ? "-N " : ""}${quoted(new URL(path, BASE).href)}`,
    `-H 'Content-Type: application/json'`,
    ...(hasKey ? [`-H "Authorization: Bearer $OPENAI_API_KEY"`] : []),
  ];
  // An argument of a command must not be long; one of printf, which the shell has inside, may be.
  const start = files.length ? `printf %s ${json} |\n` : "";
  return `${start}${[...lines, `-d ${files.length ? "@-" : json}`].join(" \\\n  ")}\n`;
}

export function asPython(request) {
  const { path, body, hasKey } = request;
  const files = inlineFiles(request);
  const chat = path === "chat/completions";
  const base = BASE.href.replace(/\/$/, "");
  const client = `OpenAI(base_url=${JSON.stringify(base)}${hasKey ? "" : ', api_key="not-used"'})`;
  const settings = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value, files, "    ")},\n`);
  return [
    ...(files.length ? ["import base64", "from pathlib import Path", ""] : []),
    "from openai import OpenAI",
    "",
    ...(files.length ? [READ_FILE] : []),
    `client = ${client}`,
    `answer = client.${chat ? "chat.completions" : "responses"}.create(\n${settings.join("")})`,
    PRINT[chat ? "chat" : "responses"][body.stream ? "stream" : "whole"],
    "",
  ].join("\n");
}

const READ_FILE = `
def read_file(name):
    return base64.b64encode(Path(name).read_bytes()).decode()

`;

const PRINT = {
  chat: {
    stream: `for chunk in answer:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()`,
    whole: "print(answer.choices[0].message.content)",
  },
  responses: {
    stream: `for event in answer:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
print()`,
    whole: "print(answer.output_text)",
  },
};

/** A JSON value as Python writes it; JSON's texts are Python's, too. */
function literal(value, files, indent) {
  const deeper = `${indent}    `;
  const lines = (items) => items.map((item) => `${deeper}${item},\n`).join("");
  if (Array.isArray(value)) return `[\n${lines(value.map((item) => literal(item, files, deeper)))}${indent}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return `{\n${lines(entries.map(([name, item]) => `"${name}": ${literal(item, files, deeper)}`))}${indent}}`;
  }
  if (typeof value === "boolean") return value ? "True" : "False";
  const file = files.find(({ data }) => data === value);
  if (file) return `"${value.slice(0, -file.base64.length)}" + read_file(${JSON.stringify(file.name)})`;
  return JSON.stringify(value);
}
