/** The page: what is asked, with which settings, and the conversation. */

import { Answer, element } from "./answer.js";
import { chatCompletions, responses } from "./apis.js";
import { ApiError, BASE, key, send, serverSentEvents } from "./requests.js";
import { asCurl, asPython, inlineFiles } from "./snippets.js";

const APIS = { chat: chatCompletions, responses };
const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`);

let turns = []; // {text, files, answer}
let files = []; // to go with the next question: {name, isImage, data, base64, blob, id}
let running = null; // the AbortController of the answer that is being made

// -- what the browser remembers ------------------------------------------------------------------------------

const noted = (name) => `flaskcompat ${BASE.pathname} ${name}`;
const recall = (name) => localStorage.getItem(noted(name));
const remember = (name, value) => localStorage.setItem(noted(name), value);

// -- models --------------------------------------------------------------------------------------------------

async function loadModels() {
  showState("Asking which models there are…");
  let names = [];
  try {
    const { data } = await withKey(async () => (await send("models")).json());
    names = data.map(({ id }) => id);
    showState(names.length ? "" : "This server has no model that you may use. Its log tells which failed to load.");
  } catch (error) {
    showState(told(error).message);
  }
  $("model").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  if (names.includes(recall("model"))) $("model").value = recall("model");
  $("model").disabled = !names.length;
  $("send").disabled = !names.length;
  $("again").hidden = names.length > 0;
}

function showState(problem) {
  $("state").textContent = problem || "Ask it something, look at how it answers, and take the request with you.";
}

// -- the key -------------------------------------------------------------------------------------------------

/** What *action* gives; asks for the API key as long as the server wants one. */
async function withKey(action) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 401) throw error;
      const why = key.get() ? "The server does not take this key." : "The server asks for a key.";
      if (!(await askKey(why))) throw error;
    }
  }
}

/** Whether there is a new key, after the dialog about it. */
async function askKey(why) {
  $("key").hidden = false;
  $("key-why").textContent = why;
  $("key-value").value = "";
  $("key-forget").hidden = !key.get();
  const choice = await shown($("key-dialog"));
  if (choice === "forget") key.forget();
  if (choice !== "use") return false;
  key.set($("key-value").value.trim());
  return true;
}

/** How *dialog* was left: the value of its button. */
function shown(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

async function changeKey() {
  const had = key.get();
  await askKey(had ? "There is a key in this tab." : "There is no key in this tab.");
  if (key.get() === had) return;
  newChat(); // what was kept under another key is not there under this one
  await loadModels();
}

// -- files ---------------------------------------------------------------------------------------------------

async function attach(chosenFiles) {
  notify("");
  for (const blob of chosenFiles) {
    if (!blob.size) notify(`${blob.name} is empty.`);
    else files.push(await read(blob).catch(() => notify(`${blob.name} cannot be read.`)));
  }
  files = files.filter(Boolean);
  showFiles();
}

function read(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onerror = reject;
    reader.onload = () => {
      const base64 = reader.result.split(";base64,")[1];
      const type = blob.type || "application/octet-stream";
      const data = `data:${type};base64,${base64}`;
      resolve({ name: blob.name, isImage: type.startsWith("image/"), data, base64, blob, id: null });
    };
    reader.readAsDataURL(blob);
  });
}

function showFiles() {
  $("files").hidden = !files.length;
  $("files").replaceChildren(...files.map((file) => fileItem(file, removal(file))));
}

function fileItem(file, ...more) {
  const picture = file.isImage ? element("img", { src: file.data, alt: "" }) : "";
  return element("li", {}, picture, element("span", {}, file.name), ...more);
}

function removal(file) {
  const remove = () => {
    files = files.filter((one) => one !== file);
    showFiles();
    $("question").focus();
  };
  return element("button", { type: "button", ariaLabel: `Remove ${file.name}`, onclick: remove }, "×");
}

async function upload(file, signal) {
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("file", file.blob, file.name);
  file.id = (await (await send("files", { form, signal })).json()).id;
}

// -- asking --------------------------------------------------------------------------------------------------

function settings() {
  const temperature = $("temperature").valueAsNumber;
  return {
    model: $("model").value,
    instructions: $("instructions").value.trim(),
    temperature: Number.isNaN(temperature) ? {} : { temperature },
    stream: $("stream").checked,
  };
}

async function ask() {
  const text = $("question").value.trim();
  if (running || $("send").disabled || !(text || files.length)) return;
  const api = APIS[chosen("api").value];
  const turn = { text, files, api, settings: settings(), request: null };
  turn.answer = new Answer(`${turn.settings.model} · ${api.title}`, follow, () => showRequest(turn.request));
  turns = [...turns.filter(({ answer }) => answer.said || !answer.failed), turn];
  showQuestion(turn);
  files = [];
  showFiles();
  notify("");
  $("question").value = "";
  setRunning(new AbortController());
  const { signal } = running;
  $("spoken").textContent = "The model answers.";
  try {
    await withKey(() => exchange(turn, signal));
    $("spoken").textContent = turn.answer.said || "The answer is empty.";
  } catch (error) {
    $("spoken").textContent = signal.aborted ? "Stopped." : `Failed: ${error.message}`;
    signal.aborted ? turn.answer.stop() : turn.answer.fail(told(error));
  }
  turn.answer.requestButton.hidden = !turn.request;
  turn.answer.settle();
  if (running?.signal === signal) setRunning(null);
}

/** *error* as what the page may say; another than the server's is the connection's, or a mistake of this page's. */
function told(error) {
  if (error instanceof ApiError) return error;
  console.error(error);
  return new ApiError("The connection was lost, or what came over it cannot be read.");
}

async function exchange(turn, signal) {
  const { api, answer } = turn;
  const all = turns.flatMap((one) => one.files);
  if ($("sending").value === "upload") {
    for (const file of turn.files.filter(({ id, isImage }) => !id && !isImage)) await upload(file, signal);
  }
  const post = () => {
    turn.request = { path: api.path, body: api.body(turn.settings, turns), files: all, hasKey: !!key.get() };
    return send(api.path, { body: turn.request.body, signal });
  };
  const response = await post().catch((error) => {
    if (error.code !== "previous_response_not_found") throw error;
    for (const one of turns) one.answer.responseId = null; // the server has forgotten: it is told all of it again
    return post();
  });
  answer.requestId = response.headers.get("x-request-id");
  if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
    await api.readStream(serverSentEvents(response.body), answer);
  } else {
    api.readWhole(await response.json(), answer);
  }
}

function setRunning(controller) {
  const isOnButton = [$("send"), $("stop")].includes(document.activeElement);
  running = controller;
  $("send").hidden = !!controller;
  $("stop").hidden = !controller;
  if (isOnButton) $("question").focus(); // the button that had it is gone
}

function newChat() {
  running?.abort();
  setRunning(null);
  turns = [];
  $("log").replaceChildren($("welcome"));
  $("welcome").hidden = false;
  $("question").focus();
}

// -- what is shown -------------------------------------------------------------------------------------------

let following = true; // whether the end of the conversation is to be seen

function follow() {
  if (following) $("log").scrollTop = $("log").scrollHeight;
}

function showQuestion({ text, files: attached, answer }) {
  const list = attached.length ? element("ul", { className: "files" }, ...attached.map((file) => fileItem(file))) : "";
  const question = element("article", { className: "question", ariaLabel: "You" }, list);
  if (text) question.append(element("div", { className: "plain" }, text));
  $("welcome").hidden = true;
  $("log").append(question, answer.node);
  following = true;
  follow();
}

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

let seen = null; // the request in the dialog

function showRequest(request) {
  seen = request;
  showSnippet();
  $("request-dialog").showModal();
}

function showSnippet() {
  const names = inlineFiles(seen).map(({ name }) => name);
  $("snippet").textContent = { curl: asCurl, python: asPython }[chosen("snippet").value](seen);
  $("snippet-needs").textContent = [
    seen.hasKey ? "It takes the key from OPENAI_API_KEY." : "",
    names.length ? `It reads from the folder that it runs in: ${names.join(", ")}.` : "",
  ].join(" ");
  $("copy").textContent = "Copy";
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("snippet")); // over plain HTTP a page may not copy by itself
    $("copy").textContent = "Selected: copy it";
  }
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  const { theme } = document.documentElement.dataset;
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(isDark ? "light" : "dark");
  remember("theme", isDark ? "light" : "dark");
}

// -- wiring --------------------------------------------------------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) running?.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", newChat);
$("again").addEventListener("click", loadModels);
$("key").addEventListener("click", changeKey);
$("theme").addEventListener("click", switchTheme);
$("key-forget").addEventListener("click", () => $("key-dialog").close("forget"));
$("copy").addEventListener("click", copy);
$("attach").addEventListener("change", async ({ target }) => {
  await attach([...target.files]);
  target.value = "";
});
$("model").addEventListener("change", () => remember("model", $("model").value));
$("log").addEventListener("scroll", ({ target }) => {
  following = target.scrollHeight - target.scrollTop - target.clientHeight < 48;
});
new ResizeObserver(follow).observe($("log"));
for (const input of document.querySelectorAll("input[name=api]")) {
  input.addEventListener("change", () => remember("api", input.value));
}
for (const input of document.querySelectorAll("input[name=snippet]")) input.addEventListener("change", showSnippet);
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

setTheme(recall("theme"));
const api = document.querySelector(`input[name=api][value=${recall("api") === "responses" ? "responses" : "chat"}]`);
api.checked = true;
$("key").hidden = !key.get();
loadModels();
