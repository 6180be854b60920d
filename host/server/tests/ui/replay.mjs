// A stand-in for `orion serve`, so that the page can be worked on and tested without a build: serves the page's files as
// they lie in the tree, and plays recorded replies to the five routes that it uses, or hands these through to a server.
// `node replay.mjs [PORT [SERVER]]` serves until it is stopped; page.mjs starts it itself. Replies are real (record.mjs);
// only the pace of the stream is made up.

import { readFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { pathToFileURL } from "node:url";

const PAGE = new URL("../../src/http/ui/", import.meta.url);
const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};
/** The policy that ui.rs sends; a test compares. */
const POLICY = /pub const POLICY: &str = "((?:[^"]|\\\n\s*)*)";/;

async function contentPolicy() {
  const source = await readFile(new URL("../ui.rs", PAGE), "utf8");
  return POLICY.exec(source)[1].replace(/\\\n\s*/g, "");
}

function failure(status, type, reason) {
  return { status, body: { error: { type, reason, root_cause: [{ type, reason }] }, status } };
}

/** The events by which a finished tree grew: turn by turn expanded, found, judged; then what became of each. */
export function growth(tree) {
  const events = [];
  const turns = [...new Set(tree.branches.map(({ turn }) => turn))].sort((a, b) => a - b);
  for (const turn of turns) {
    const these = tree.branches.filter((branch) => branch.turn === turn);
    const bare = (branch) => ({ ...branch, hits: [], confidence: null, judged: [], pruned: false, chosen: false });
    events.push(...these.map(bare));
    events.push(...these.map((branch) => ({ ...bare(branch), hits: branch.hits })));
    events.push(...these.map((branch) => ({ ...branch, pruned: false, chosen: false })));
    events.push(...these.filter(({ pruned }) => pruned).map((branch) => ({ ...branch, chosen: false })));
  }
  return [...events, ...tree.branches.filter(({ chosen }) => chosen)];
}

/** Starts on a free port of loopback, or the given one; `key` makes it ask for one, `prefix` stands before all paths, `through` is a server that answers instead. Gives `{base, close}`. */
export async function replay({ port = 0, paceMs = 15, key = null, prefix = "", through = null } = {}) {
  const recorded = JSON.parse(await readFile(new URL("recorded.json", import.meta.url), "utf8"));
  const policy = await contentPolicy();

  function replyTo({
    ext: {
      adaptive: { strategy, budget, params },
    },
  }) {
    const { replies } = recorded;
    if (params?.nonsense !== undefined) return replies.unknownParameter;
    if (params?.turns === "99") return replies.manyTurns;
    if (budget?.retrievals === 2) return replies.fewRetrievals;
    if (budget?.ms === 60) return replies.fewMilliseconds;
    return replies[strategy] ?? replies.beam;
  }

  async function answer(request, response) {
    const { pathname: whole, search } = new URL(request.url, "http://localhost");
    const pathname = whole.startsWith(prefix) ? whole.slice(prefix.length) : "";
    const json = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (pathname === "/_ui") {
      response.writeHead(307, { Location: `_ui/${search}` });
      return response.end();
    }
    if (pathname.startsWith("/_ui/")) {
      const name = pathname.slice("/_ui/".length) || "index.html";
      if (!/^[a-z]+\.(html|js|css|svg)$/.test(name)) return json(404, {});
      response.writeHead(200, { "Content-Type": TYPES[name.split(".")[1]], "Content-Security-Policy": policy });
      return response.end(await readFile(new URL(name, PAGE)));
    }
    if (through !== null) {
      const upstream = ask(
        new URL(request.url, through),
        { method: request.method, headers: request.headers },
        (reply) => {
          response.writeHead(reply.statusCode, reply.headers);
          reply.pipe(response);
        },
      );
      upstream.on("error", () => response.destroy());
      response.on("close", () => upstream.destroy());
      return request.pipe(upstream);
    }
    const wanted = key === null ? null : `ApiKey ${Buffer.from(key).toString("base64")}`;
    if (wanted !== null && request.headers.authorization !== wanted) {
      const { status, body } = failure(401, "security_exception", "expected an API key, got none or a wrong one");
      response.setHeader("WWW-Authenticate", 'Basic realm="orion"');
      return json(status, body);
    }
    if (pathname === "/_orion/version") return json(200, recorded.version);
    if (pathname === "/_cat/indices") return json(200, recorded.indices);
    if (pathname === "/_orion/strategies") return json(200, recorded.strategies);
    let text = "";
    for await (const piece of request) text += piece;
    const [, index, operation] = /^\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
    if (operation === "_mget") {
      return json(200, {
        docs: JSON.parse(text).ids.map((_id) => ({
          _id,
          found: _id in recorded.titles,
          _source: { title: recorded.titles[_id] },
        })),
      });
    }
    if (operation !== "_search/stream") return json(404, failure(404, "not_found", `no route ${pathname}`).body);
    if (index !== recorded.indices[0].index)
      return json(404, failure(404, "index_not_found_exception", `no such index [${index}]`).body);
    const reply = replyTo(JSON.parse(text));
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    const send = (name, data) => response.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
    if (reply.error !== undefined) {
      send("error", reply);
      return response.end();
    }
    for (const branch of growth(reply.ext.adaptive.tree)) {
      await new Promise((resolve) => setTimeout(resolve, paceMs));
      if (response.destroyed) return;
      send("branch", branch);
    }
    send("result", reply);
    response.end();
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      response.writeHead(500);
      response.end(String(error));
    });
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    base: `http://127.0.0.1:${server.address().port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { base } = await replay({ port: Number(process.argv[2] ?? 0), paceMs: 40, through: process.argv[3] ?? null });
  console.log(`${base}/_ui`);
}
