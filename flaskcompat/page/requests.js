/** Requests to the API beside this page: the key, errors, and server-sent events. */

/** Where the API is; relative to the page, which may be below a prefix. */
export const BASE = new URL("v1/", document.baseURI);

const KEY = `flaskcompat ${BASE.pathname} key`;

/** The API key of this tab; kept as long as the tab is, and nowhere else. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** What went wrong, as the server tells it. */
export class ApiError extends Error {
  constructor(message, { status = null, code = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId });
  }
}

/** The answer to a request; an ApiError where it is none. A `body` is sent as JSON, a `form` as it is. */
export async function send(path, { body, form, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  const sent = body || form;
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method: sent ? "POST" : "GET",
      headers,
      body: form ?? (body && JSON.stringify(body)),
      signal,
    });
  } catch {
    throw new ApiError(`The server ${sent ? "cannot be reached, or has refused so much data" : "cannot be reached"}.`);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  const about = { status: response.status, requestId: response.headers.get("x-request-id") };
  const told = await response.json().catch(() => null); // a proxy's error may be no JSON
  const { message = `${response.status} ${response.statusText}`, code } = told?.error ?? {};
  return new ApiError(message, { ...about, code });
}

/** The events of a stream of bytes as {name, data}; comments are left out. */
export async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let afterReturn = false; // a line feed that comes next belongs to the line that has ended
  let event = { name: "", data: [] };
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (!read.value) continue;
      const text = afterReturn && read.value.startsWith("\n") ? read.value.slice(1) : read.value;
      afterReturn = read.value.endsWith("\r");
      const lines = (rest + text).split(/\r\n|\r|\n/);
      rest = lines.pop();
      for (const line of lines) {
        const [, field, value] = line.match(/^([^:]*)(?:: ?)?(.*)$/s);
        if (field === "event") event.name = value;
        if (field === "data") event.data.push(value);
        if (line) continue;
        if (event.data.length) yield { name: event.name, data: event.data.join("\n") };
        event = { name: "", data: [] };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // of a stream that was left before its end, or has failed
  }
}
