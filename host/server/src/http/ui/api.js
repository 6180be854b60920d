// Talks to the server that serves this page. Errors are `Refusal`s, whose words come from the server where it gave any.

const ROOT = new URL("..", import.meta.url);
const KEY = "orion-api-key";

/** An answer that is none: the server's own error, or why there was no answer. */
export class Refusal extends Error {
  constructor(type, reason, status = 0, causes = []) {
    super(reason);
    this.name = "Refusal";
    this.type = type;
    this.status = status;
    this.causes = causes;
  }
}

/** Reads an error body of OpenSearch's shape. */
export function toRefusal(body, status) {
  const error = body?.error;
  if (typeof error === "string") return new Refusal("error", error, status);
  const causes = [...(error?.root_cause ?? []), ...(error?.caused_by ? [error.caused_by] : [])]
    .map(({ reason }) => reason)
    .filter((reason) => reason && reason !== error.reason);
  return new Refusal(
    error?.type ?? "error",
    error?.reason ?? `the server answered with status ${status}`,
    body?.status ?? status,
    causes,
  );
}

/** A key as it is sent: NAME:SECRET as people have it is encoded, anything else is taken for encoded already. */
function encodedKey(key) {
  return key.includes(":") ? btoa(String.fromCharCode(...new TextEncoder().encode(key))) : key;
}

let askForKey = async () => null;
let asking = null;

/** `ask(wasRefused)` shows a dialog and gives the key, or null where the reader has none. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

async function request(path, { body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { Accept: "application/json, text/event-stream" };
    if (key !== null) headers.Authorization = `ApiKey ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(new URL(path, ROOT), {
        method: body === undefined ? "GET" : "POST",
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        // The server also offers Basic, and a browser that may send credentials would ask for them in a dialog of its own.
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("no answer", "the server did not answer; is it still running?");
    }
    if (response.ok) return response;
    const refusal = toRefusal(await response.json().catch(() => null), response.status);
    if (response.status !== 401) throw refusal;
    // Several requests may find out at once: one dialog serves them all.
    if (sessionStorage.getItem(KEY) === key) {
      asking ??= askForKey(key !== null).finally(() => (asking = null));
      const given = await asking;
      if (given === null) throw refusal;
      sessionStorage.setItem(KEY, encodedKey(given));
    }
  }
}

export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

export async function post(path, body, signal) {
  return (await request(path, { body, signal })).json();
}

/** Server-sent events of a body, as `{name, data}`; comments, which keep connections alive, are passed over. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      pending += value;
      let end;
      while ((end = /\r?\n\r?\n/.exec(pending)) !== null) {
        const event = parseEvent(pending.slice(0, end.index));
        pending = pending.slice(end.index + end[0].length);
        if (event !== null) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
  }
  return data.length === 0 ? null : { name, data: data.join("\n") };
}

/** Searches; `onBranch` hears of every branch as it appears and changes. Gives the whole reply. */
export async function searchStream(index, body, onBranch, signal) {
  const response = await request(`${encodeURIComponent(index)}/_search/stream`, { body, signal });
  for await (const { name, data } of events(response.body)) {
    const value = JSON.parse(data);
    if (name === "branch") onBranch(value);
    else if (name === "result") return value;
    else if (name === "error") throw toRefusal(value, value.status ?? response.status);
  }
  throw new Refusal("no answer", "the connection ended before the answer came");
}
