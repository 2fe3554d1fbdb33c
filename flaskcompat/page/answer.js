/** An answer in the page, as it comes. What a model says becomes text of the page and nothing else. */

/** A new element; `content` are texts and nodes. */
export function element(tag, properties = {}, ...content) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...content);
  return node;
}

/** A text that unfolds. */
function unfolding(className, title, ...content) {
  return element("details", { className }, element("summary", {}, title), ...content);
}

export class Answer {
  /** What the model said, for the turns to come. */
  said = "";
  /** The id under which the server has kept it, in place of which it would be said again. */
  responseId = null;
  failed = false;
  requestId = null;

  #blocks = []; // in order: {kind, node, target, text}, where `target` shows `text`
  #calls = new Map();
  #sources = new Set();
  #facts = [];
  #changed = new Set();
  #frame = null;
  #onChange;
  #progress = element("ul", { className: "progress" });
  #body = element("div", { className: "body" });
  #list = element("ol");
  #foot = element("footer");

  /** `onChange` is called when the page has changed, `onRequest` when the request is to be seen. */
  constructor(title, onChange, onRequest) {
    this.#onChange = onChange;
    this.node = element(
      "article",
      { className: "answer busy", ariaLabel: `Answer of ${title}` },
      element("header", {}, title),
      this.#progress,
      this.#body,
      this.#foot,
    );
    const action = { type: "button", className: "link", onclick: onRequest };
    this.requestButton = element("button", action, "Copy as curl or Python");
  }

  text(piece) {
    this.said += piece;
    this.#add("text", piece, () => element("div"));
  }

  refusal(piece) {
    this.said += piece;
    this.#add("refusal", piece, () => element("div", { className: "refusal plain" }));
  }

  reasoning(piece) {
    this.#add("reasoning", piece, () => {
      const target = element("div", { className: "plain" });
      return [Object.assign(unfolding("reasoning", "Reasoning", target), { open: true }), target];
    });
  }

  /** A piece of a tool call; the first one under its `key` has id and name. */
  call(key, { id, name, piece }) {
    let call = this.#calls.get(key);
    if (!call) {
      const target = element("pre");
      const node = unfolding("call", element("code", {}, name ?? "tool"), target);
      node.open = true;
      call = this.#append({ kind: "call", node, target, id, isOpen: true });
      this.#calls.set(key, call);
    }
    call.text += piece ?? "";
    this.#change(call);
  }

  /** What the call of that id gave, where the server made it. */
  output(id, output) {
    const call = [...this.#calls.values()].find((one) => one.id === id);
    const text = typeof output === "string" ? output : JSON.stringify(output, null, 2);
    if (!call) return this.event({ type: "function_call_output", data: text });
    call.isOpen = false;
    call.node.append(element("pre", { className: "output" }, text));
    this.#change();
  }

  source({ title, filename, url, texts = [] }) {
    const name = title || filename || url || "Source";
    const mark = JSON.stringify([name, url, texts]);
    if (this.#sources.has(mark)) return;
    if (!this.#sources.size) this.#foot.before(element("section", { className: "sources" }, "Sources", this.#list));
    this.#sources.add(mark);
    const link = isWeb(url) && element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, name);
    const passages = texts.length ? unfolding("passages", "Passage", texts.join("\n\n")) : "";
    this.#list.append(element("li", {}, link || name, passages));
    this.#change();
  }

  /** An event of a wrapper's. Some mean something to a chat page, the others are shown as they are. */
  event({ type, data: given }) {
    const data = given ?? {};
    switch (type) {
      case "status":
        return this.#status(data);
      case "message":
        return this.text(String(data.content ?? ""));
      case "replace":
        return this.#replace(String(data.content ?? ""));
      case "notification": {
        const node = element("p", { className: `notification ${data.type}` }, String(data.content ?? ""));
        this.#append({ kind: "notification", node });
        return this.#change();
      }
      case "source":
      case "citation": {
        const { name, url } = data.source ?? {};
        const texts = [data.document ?? []].flat().map(String);
        return this.source({ title: name, url: url ?? name, texts });
      }
      default: {
        const text = typeof data === "string" ? data : JSON.stringify(data, null, 2);
        this.#append({ kind: "event", node: unfolding("event", `Event: ${type}`, element("pre", {}, text)) });
        return this.#change();
      }
    }
  }

  #status({ description, done, hidden }) {
    this.#progress.querySelector("li:not(.done)")?.remove(); // it has gone on to this one
    const className = done ? "done" : "";
    if (!hidden) this.#progress.append(element("li", { className }, String(description ?? "")));
    this.#change();
  }

  #replace(content) {
    const isText = ({ kind }) => kind === "text";
    this.#blocks.filter(isText).forEach(({ node }) => node.remove());
    this.#blocks = this.#blocks.filter((block) => !isText(block));
    this.said = "";
    this.text(content);
  }

  usage(input, output) {
    if (input || output) this.#facts.push(`${input} tokens in, ${output} out`); // zeros stand for not known
  }

  finish(reason) {
    this.#facts.unshift(reason);
  }

  /** The server has it, and the conversation can go on from there; but not from a call that nobody answers. */
  keptAs(id) {
    if (![...this.#calls.values()].some(({ isOpen }) => isOpen)) this.responseId = id;
  }

  fail({ message, code, status, requestId }) {
    this.failed = true;
    this.requestId ??= requestId;
    const about = [status && `HTTP ${status}`, code].filter(Boolean).join(" · ");
    const lines = [element("p", {}, message), element("p", { className: "small" }, about)];
    this.#append({ kind: "error", node: element("div", { className: "error" }, ...lines) });
  }

  stop() {
    this.failed = true;
    this.#facts.unshift("stopped");
  }

  /** Nothing more comes. */
  settle() {
    this.#fold();
    this.#render();
    this.node.classList.remove("busy");
    for (const { target, text } of this.#calls.values()) target.textContent = indented(text);
    if (this.requestId) this.#facts.push(this.requestId);
    this.#foot.append(...this.#facts.map((fact) => element("span", {}, fact)), this.requestButton);
    this.#onChange();
  }

  #add(kind, piece, make) {
    let block = this.#blocks.at(-1);
    if (block?.kind !== kind) {
      const [node, target = node] = [make()].flat();
      block = this.#append({ kind, node, target });
    }
    block.text += piece;
    this.#change(block);
  }

  #append(block) {
    this.#fold();
    block.text = "";
    this.#blocks.push(block);
    this.#body.append(block.node);
    return block;
  }

  /** Reasoning is open while it is being thought. */
  #fold() {
    const last = this.#blocks.at(-1);
    if (last?.kind === "reasoning") last.node.open = false;
  }

  /** Have the page changed, once for all that comes until the screen is drawn. */
  #change(block) {
    if (block) this.#changed.add(block);
    this.#frame ??= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    for (const { kind, target, text } of this.#changed) (kind === "text" ? showText : setText)(target, text);
    this.#changed.clear();
    this.#onChange();
  }
}

function isWeb(url) {
  return URL.canParse(url) && ["http:", "https:"].includes(new URL(url).protocol);
}

function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** Make *text* that of *node*; what has been there stays, and so does what is selected of it. */
function setText(node, text) {
  const old = node.firstChild;
  if (old && text.startsWith(old.data)) old.appendData(text.slice(old.length));
  else node.textContent = text;
}

// A block to unfold, as wrappers write it for Open WebUI.
const UNFOLDING = /<details type="[^"\n]*" done="true">\n<summary>(?<summary>.*)<\/summary>\n\n(?<body>[^]*?)\n<\/details>/;
// Code in a fence, which may still be open.
const CODE = /^(?<fence>`{3,})(?<language>[^`\n]*)\n(?<code>[^]*?)(?:^\k<fence>[ \t]*(?:\n|$)|$(?![^]))/;
const PARTS = new RegExp(`${UNFOLDING.source}|${CODE.source}`, "gm");

function* partsOf(text) {
  let end = 0;
  for (const { 0: found, index, groups } of text.matchAll(PARTS)) {
    yield* plain(text.slice(end, index));
    if (groups.fence) yield { kind: "code", title: groups.language.trim(), text: groups.code };
    else yield { kind: "unfolds", title: unescaped(groups.summary), text: groups.body };
    end = index + found.length;
  }
  yield* plain(text.slice(end));
}

function* plain(text) {
  if (text.trim()) yield { kind: "plain", text };
}

function unescaped(text) {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

const MAKE = {
  plain: () => element("div", { className: "plain" }),
  code: ({ title }) => element("figure", {}, element("figcaption", {}, title), element("pre", { tabIndex: 0 })),
  unfolds: ({ title }) => unfolding("call", title, element("div")),
};

/** Show *text* in *parent*, where an earlier state of it may stand: only what is new is touched. */
function showText(parent, text) {
  const parts = [...partsOf(text)];
  parts.forEach((part, index) => {
    let node = parent.children[index];
    if (node?.dataset.kind !== part.kind) {
      const made = MAKE[part.kind](part);
      made.dataset.kind = part.kind;
      node ? node.replaceWith(made) : parent.append(made);
      node = made;
    }
    if (part.kind === "unfolds") showText(node.lastElementChild, part.text);
    else setText(part.kind === "code" ? node.lastElementChild : node, part.text.replace(/^\n+|\n+$/g, ""));
  });
  while (parent.children.length > parts.length) parent.lastElementChild.remove();
}
