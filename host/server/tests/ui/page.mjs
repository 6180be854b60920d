// Tries the page in a real Chromium: a search, a tree that grows, errors, cancelling, a narrow window, both themes,
// keyboard alone, accessibility, a shared address. Against a running server, or, without an address, against replay.mjs:
//
//   npm install --prefix target/ui --no-save playwright-core@1.64.1 axe-core@4.14.1
//   node host/server/tests/ui/page.mjs [--base http://127.0.0.1:9200] [--index islands] [--query "…"] [--key NAME:SECRET]
//        [--through] [--pictures FOLDER] [--only WORD] [--modules target/ui]
//
// With `--through` the page comes from the tree and only the replies from the server, so that a change needs no build.
// Chromium is Debian's (packages chromium and chromium-driver), or the one that CHROMIUM names. The server's index has to
// hold the bundled corpus. The exit status is 1 if anything failed.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { arithmetic } from "./arithmetic.mjs";
import { replay } from "./replay.mjs";

const { values: options } = parseArgs({
  options: {
    base: { type: "string" },
    through: { type: "boolean", default: false },
    index: { type: "string", default: "islands" },
    query: { type: "string", default: "artist who stayed after the strange skies ended" },
    key: { type: "string" },
    pictures: { type: "string" },
    only: { type: "string", default: "" },
    modules: { type: "string", default: "target/ui" },
  },
});
const modules = createRequire(join(resolve(options.modules), "package.json"));
const { chromium } = modules("playwright-core");
const AXE = modules.resolve("axe-core/axe.min.js");
/** Longest wait for anything, in milliseconds: a search takes about one second on two slow threads. */
const PATIENCE_MS = 20_000;

const isReal = options.base !== undefined;
const own = isReal && !options.through ? null : await replay({ through: options.base ?? null });
const base = own?.base ?? options.base;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

const tests = [];
function test(name, run, settings = {}) {
  tests.push({ name, run, settings });
}

/** Address of the page with a state. */
function address(state = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) for (const one of [value].flat()) parameters.append(name, one);
  return `${base}/_ui/?${parameters}`;
}

const shared = (more = {}) => address({ q: options.query, index: options.index, ...more });

async function finished(page, columns = 1) {
  await page.waitForFunction(
    (wanted) => {
      const states = [...document.querySelectorAll(".column")].map((column) => column.dataset.state);
      return states.length === wanted && states.every((state) => ["done", "failed", "cancelled"].includes(state));
    },
    columns,
    { timeout: PATIENCE_MS },
  );
}

async function picture(page, name) {
  if (options.pictures === undefined) return;
  mkdirSync(options.pictures, { recursive: true });
  await page.evaluate(() => document.activeElement?.blur());
  await page.screenshot({ path: join(options.pictures, `${name}.png`), fullPage: true });
}

async function noOverflow(page) {
  // Charts follow a new width after the next layout.
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= inner, `nothing runs over the edge, got ${wide} of ${inner}`);
}

async function noFindings(page) {
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .map((animation) => (animation.effect.getTiming().iterations === Infinity ? null : animation.finished)),
    ),
  );
  // Through the debugger, which the page's content policy does not concern.
  await page.evaluate(`${modules("node:fs").readFileSync(AXE, "utf8")}; 0`);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map(
    ({ id, nodes }) =>
      `${id}: ${nodes
        .slice(0, 4)
        .map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`)
        .join("\n   ")}`,
  );
  assert.deepEqual(told, [], `accessibility:\n${told.join("\n")}`);
}

test("the first sight", async (page) => {
  await page.goto(`${base}/_ui`);
  await page.waitForSelector("body[data-state=ready]");
  assert.equal(new URL(page.url()).pathname, "/_ui/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "q");
  assert.ok((await page.locator("#index option").allTextContents()).some((text) => text.startsWith(options.index)));
  assert.equal(await page.locator(".strategy").inputValue(), "beam");
  await noFindings(page);
  await picture(page, "first");
});

test("a search, and a tree that grows", async (page) => {
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  // Rows are counted as they come.
  await page.evaluate(() => {
    globalThis.counts = [];
    new MutationObserver(() => globalThis.counts.push(document.querySelectorAll("[role=treeitem]").length)).observe(
      document.getElementById("columns"),
      { childList: true, subtree: true },
    );
  });
  await page.fill("#q", options.query);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".column[data-state=running] [role=treeitem]", { timeout: PATIENCE_MS });
  await picture(page, "growing");
  await finished(page);
  const counts = [...new Set(await page.evaluate(() => globalThis.counts))];
  assert.ok(3 <= counts.length, `the tree grew in steps, got counts ${counts}`);
  const branches = await page.locator("[role=treeitem]").count();
  assert.equal(Math.max(...counts), branches);
  assert.ok(1 < branches);
  assert.equal(await page.locator(".result").count(), 10);
  assert.ok(0 < (await page.locator(".result mark").count()));
  assert.match(await page.locator(".status").innerText(), /retrievals? · [\d,]+ tokens read, [\d,]+ written/);
  assert.ok(0 < (await page.locator(".row[data-fate=chosen]").count()));
  assert.ok(0 < (await page.locator(".row[data-fate=pruned]").count()));
  assert.ok(0 < (await page.locator(".course").count()), "the first document is followed");
  assert.ok(1 < (await page.locator(".rounds tbody tr").count()));
  // Titles stand for ids once they have come.
  await page.waitForFunction(() => /[A-Z]/.test(document.querySelector(".found").textContent));
  await noFindings(page);
  await picture(page, "search");
});

test("a branch's details, a followed document, the address", async (page) => {
  await page.goto(shared());
  await finished(page);
  await page.locator("[role=treeitem]").nth(1).click();
  const details = page.locator(".details");
  await details.waitFor();
  assert.match(await details.innerText(), /Confidence/);
  assert.equal(await page.locator("[role=treeitem]").nth(1).getAttribute("aria-selected"), "true");
  await page.locator(".result .follow").nth(1).click();
  await page.locator(".result .follow").nth(3).click();
  assert.equal(await page.locator(".course").count(), 2);
  const followed = new URL(page.url()).searchParams.getAll("doc");
  assert.equal(followed.length, 2);
  await noFindings(page);
  await picture(page, "details");
  await page.reload();
  await finished(page);
  assert.deepEqual(new URL(page.url()).searchParams.getAll("doc"), followed);
  assert.equal(await page.locator(".result .follow[aria-pressed=true]").count(), 2);
});

test("the picture of the tree opens branches", async (page) => {
  await page.goto(shared());
  await finished(page);
  await page.locator(".sky .dot").nth(2).click();
  assert.equal(await page.locator("[role=treeitem][aria-selected=true]").count(), 1);
  await page.locator(".details").waitFor();
});

test(
  "strategies side by side",
  async (page) => {
    await page.goto(shared({ s: ["beam~turns=3", "hybrid", "blind~beam=1"] }));
    await finished(page, 3);
    assert.deepEqual(await page.locator(".strategy").evaluateAll((all) => all.map((one) => one.value)), [
      "beam",
      "hybrid",
      "blind",
    ]);
    assert.equal(await page.locator(".column").nth(0).getByRole("spinbutton", { name: "turns" }).inputValue(), "3");
    assert.ok(0 < (await page.locator(".column").nth(1).locator(".shift").count()));
    const tops = await page
      .locator(".ranking")
      .evaluateAll((all) => all.map((one) => Math.round(one.getBoundingClientRect().top)));
    assert.equal(new Set(tops).size, 1, `rankings begin at one height, got ${tops}`);
    await noFindings(page);
    await picture(page, "three");
    await page.locator(".remove").nth(2).click();
    assert.equal(await page.locator(".column").count(), 2);
    assert.deepEqual(new URL(page.url()).searchParams.getAll("s"), ["beam~turns=3", "hybrid"]);
    await picture(page, "two");
  },
  { viewport: { width: 1500, height: 1000 } },
);

test("parameters go to the server as they were typed", async (page) => {
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  await page.locator(".more summary").click();
  await page.getByRole("spinbutton", { name: "turns" }).fill("2");
  await page.getByRole("spinbutton", { name: "retrievals" }).fill("6");
  await page.getByRole("spinbutton", { name: "patience" }).fill("0");
  await page.getByRole("combobox", { name: "policy" }).selectOption("none");
  await page.getByRole("spinbutton", { name: "seed" }).fill("7");
  await picture(page, "settings");
  await noFindings(page);
  await page.fill("#q", options.query);
  const asked = page.waitForRequest((request) => request.url().endsWith("/_search/stream"));
  await page.locator("#q").press("Enter");
  const body = (await asked).postDataJSON();
  assert.deepEqual(body.ext.adaptive, {
    strategy: "beam",
    trace: true,
    params: { turns: "2", patience: "0" },
    budget: { retrievals: 6 },
    policy: "none",
    seed: 7,
  });
  assert.deepEqual(body.query, { match: { text: options.query } });
  await finished(page);
  assert.equal(await page.locator(".column").getAttribute("data-state"), "done");
  assert.match(new URL(page.url()).searchParams.get("s"), /^beam~.*budget\.retrievals=6/);
});

test(
  "a budget that runs out is said",
  async (page) => {
    await page.goto(shared({ s: ["beam~budget.retrievals=2", "beam~turns=99"] }));
    await finished(page, 2);
    assert.match(await page.locator(".column").nth(0).locator(".status").innerText(), /2 retrievals/);
    assert.match(await page.locator(".column").nth(0).locator(".said").innerText(), /budget retrievals/);
    assert.match(await page.locator(".column").nth(1).locator(".flag.degraded").innerText(), /turns.*16.*99/s);
    await noFindings(page);
    await picture(page, "flags");
  },
  { viewport: { width: 1200, height: 800 } },
);

test("an unknown index and a wrong parameter are errors with reasons", async (page) => {
  await page.goto(address({ q: "x", index: "nowhere" }));
  await finished(page);
  assert.match(await page.locator(".failure").innerText(), /no such index/i);
  await noFindings(page);
  await picture(page, "error");
  await page.goto(shared({ s: "beam~nonsense=1" }));
  await finished(page);
  assert.match(await page.locator(".failure").innerText(), /nonsense/);
  // After an error the next search works.
  await page.locator(".strategy").selectOption("hybrid");
  await page.locator("#q").press("Enter");
  await page.waitForSelector(".column[data-state=done]", { timeout: PATIENCE_MS });
});

test("cancel ends the request", async (page) => {
  await page.goto(shared({ s: ["beam", "beam"] }));
  await page.waitForSelector(".column[data-state=running] [role=treeitem]", { timeout: PATIENCE_MS });
  const ended = page.waitForEvent("requestfailed");
  await page.locator("#cancel").click();
  await ended;
  await finished(page, 2);
  // The first may have ended while the button was on its way; what waits behind a cancelled search is not begun.
  assert.equal(await page.locator(".column").nth(1).getAttribute("data-state"), "cancelled");
  assert.ok(await page.locator("#go").isVisible());
  await picture(page, "cancelled");
});

test("no server, no silence", async (page) => {
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  await page.route("**/_search/stream", (route) => route.abort());
  await page.fill("#q", "anything");
  await page.keyboard.press("Enter");
  await finished(page);
  assert.match(await page.locator(".failure").innerText(), /did not answer/);
  await page.unroute("**/_search/stream");
  await page.route("**/_search/stream", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: ": hello\n\n" }),
  );
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /ended before/.test(document.querySelector(".failure")?.textContent));
  await page.route("**/_cat/indices**", (route) => route.fulfill({ json: [] }));
  await page.goto(address());
  await page.waitForFunction(() => /no index yet/.test(document.getElementById("problem").textContent));
  await picture(page, "empty");
});

test("hostile text stays text", async (page) => {
  const evil = `<img src=x onerror=alert(1)><script>alert(2)</script>${"x".repeat(300)}`;
  const branch = {
    branch: 0,
    parent: null,
    turn: 0,
    think: evil,
    query: evil,
    retriever: "Hybrid",
    hits: [{ id: evil, score: 1 }],
    confidence: 3,
    judged: [{ name: evil, value: evil }],
    pruned: false,
    chosen: true,
  };
  const reply = {
    took: 1,
    hits: { hits: [{ _id: evil, _score: 1, _source: { title: evil, text: evil } }] },
    ext: { adaptive: { tree: { branches: [branch], calls: [] }, degraded: { kind: "trap", reason: evil } } },
  };
  await page.route("**/_search/stream", (route) =>
    route.fulfill({
      contentType: "text/event-stream",
      body: `event: branch\ndata: ${JSON.stringify(branch)}\n\nevent: result\ndata: ${JSON.stringify(reply)}\n\n`,
    }),
  );
  await page.goto(shared());
  await finished(page);
  await page.locator("[role=treeitem]").click();
  assert.equal(await page.locator(".columns img, .columns script").count(), 0);
  assert.ok((await page.locator(".think").innerText()).includes("<img"));
  assert.match(await page.locator(".flag.degraded").innerText(), /onerror/);
  await noOverflow(page);
  await page.setViewportSize({ width: 360, height: 740 });
  await noOverflow(page);
});

test("no width runs over the edge", async (page) => {
  for (const s of [["beam"], ["beam", "hybrid"], ["beam", "hybrid", "blind"]]) {
    await page.goto(shared({ s }));
    await finished(page, s.length);
    for (const width of [320, 360, 480, 640, 736, 768, 959, 960, 1088, 1280, 1920]) {
      await page.setViewportSize({ width, height: 800 });
      await noOverflow(page);
    }
  }
});

test("a tree of many branches", async (page) => {
  const branches = Array.from({ length: 1500 }, (_, branch) => ({
    branch,
    parent: branch === 0 ? null : Math.floor((branch - 1) / 3),
    turn: Math.floor(Math.log(2 * branch + 1) / Math.log(3)),
    think: "",
    query: `query ${branch}`,
    retriever: "Lexical",
    hits: [{ id: "one", score: 1 }],
    confidence: 0.5,
    judged: [],
    pruned: branch % 2 === 1,
    chosen: false,
  }));
  const reply = { took: 1, hits: { hits: [] }, ext: { adaptive: { tree: { branches, calls: [] } } } };
  const events = [...branches.map((branch) => ["branch", branch]), ["result", reply]];
  const body = events.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join("");
  await page.route("**/_search/stream", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await page.goto(shared());
  await finished(page);
  assert.equal(await page.locator("[role=treeitem]").count(), 400);
  await page.locator(".more-rows").click();
  assert.equal(await page.locator("[role=treeitem]").count(), 1500);
  assert.match(await page.locator(".ranking").innerText(), /no document answers/i);
});

test("the page's own arithmetic", async (page) => {
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  assert.deepEqual(await page.evaluate(arithmetic), []);
});

for (const theme of ["light", "dark"]) {
  test(
    `narrow, ${theme}`,
    async (page) => {
      await page.goto(shared());
      await finished(page);
      await page.locator("[role=treeitem]").nth(1).click();
      await noOverflow(page);
      await noFindings(page);
      await picture(page, `narrow-${theme}`);
    },
    { viewport: { width: 360, height: 740 }, colorScheme: theme },
  );
}

test(
  "dark by the system, and the switch",
  async (page) => {
    await page.goto(shared());
    await finished(page);
    const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const dark = await background();
    await noFindings(page);
    await picture(page, "dark");
    await page.locator("#theme").click();
    const light = await background();
    assert.notEqual(light, dark);
    await page.reload();
    await page.waitForSelector("body[data-state=ready]");
    assert.equal(await background(), light, "the choice is kept");
    await page.locator("#theme").click();
    assert.equal(await background(), dark);
  },
  { colorScheme: "dark" },
);

test("keyboard alone", async (page) => {
  const press = (key) => page.keyboard.press(key);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  await page.evaluate(() => document.activeElement.blur());
  await press("/");
  assert.equal(await focused(), "q");
  await page.keyboard.type(options.query);
  await press("Enter");
  await finished(page);
  // Tab leads from the box through the settings into the tree.
  for (
    let steps = 0;
    steps < 30 && !(await page.evaluate(() => document.activeElement.matches("[role=treeitem]")));
    steps++
  )
    await press("Tab");
  const at = () => page.evaluate(() => Number(document.activeElement.dataset.branch));
  assert.equal(await at(), 0);
  await press("ArrowRight");
  const child = await at();
  assert.notEqual(child, 0);
  await press("End");
  const last = await at();
  await press("ArrowUp");
  assert.notEqual(await at(), last);
  await press("Home");
  assert.equal(await at(), 0);
  const rows = () => page.locator("[role=treeitem]").count();
  const all = await rows();
  await press("ArrowLeft");
  assert.ok((await rows()) < all, "a closed branch hides its children");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-expanded")), "false");
  await press("ArrowRight");
  assert.equal(await rows(), all);
  await press("ArrowDown");
  assert.equal(await at(), child);
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-selected")), "true");
  assert.ok(
    await page.evaluate(
      () =>
        document.activeElement.matches(":focus-visible") &&
        getComputedStyle(document.activeElement).outlineStyle === "solid",
    ),
    "the focus is seen",
  );
  await press("Tab");
  assert.ok(
    await page.evaluate(() => document.activeElement.matches(".details .follow")),
    "the details follow their row",
  );
  await press("Enter");
  assert.equal(
    await page.evaluate(() => document.activeElement.getAttribute("aria-pressed")),
    "true",
    "the focus stays on what was pressed",
  );
  assert.equal(new URL(page.url()).searchParams.getAll("doc").length, 1);
  await press("/");
  assert.equal(await focused(), "q");
  await press("Enter");
  await page.waitForSelector(".column[data-state=running]");
  await press("Escape");
  await finished(page);
  assert.equal(await page.locator(".column").getAttribute("data-state"), "cancelled");
});

test("back and forward", async (page) => {
  await page.goto(address({ index: options.index }));
  await page.waitForSelector("body[data-state=ready]");
  for (const query of ["green sunsets", "the lamp board"]) {
    await page.fill("#q", query);
    await page.locator("#q").press("Enter");
    await page.waitForFunction(() => document.querySelector(".column").dataset.state === "running");
    await finished(page);
  }
  await page.goBack();
  assert.equal(await page.inputValue("#q"), "green sunsets");
  await finished(page);
  assert.equal(await page.locator(".column").getAttribute("data-state"), "done");
  await page.goForward();
  assert.equal(await page.inputValue("#q"), "the lamp board");
});

/** A key is asked for where the server wants one: our own stand-in does, and a server that was started with keys. */
async function keyIsAskedFor(page, at, key) {
  await page.goto(`${at}/_ui/?${new URLSearchParams({ q: options.query, index: options.index })}`);
  await page.locator("#key[open]").waitFor();
  await noFindings(page);
  await picture(page, "key");
  await page.fill("#key-value", "wrong:secret");
  await page.keyboard.press("Enter");
  await page.locator(".refused").waitFor({ state: "visible" });
  await page.fill("#key-value", key);
  await page.keyboard.press("Enter");
  await finished(page);
  assert.equal(await page.locator(".column").getAttribute("data-state"), "done");
  await page.reload();
  await finished(page);
  assert.ok(!(await page.locator("#key[open]").isVisible()), "the tab remembers");
}

if (!isReal) {
  test("behind a proxy that puts a prefix before all paths", async (page) => {
    const prefixed = await replay({ prefix: "/search" });
    try {
      await page.goto(`${prefixed.base}/search/_ui?${new URLSearchParams({ q: options.query })}`);
      await finished(page);
      assert.equal(await page.locator(".column").getAttribute("data-state"), "done");
      assert.equal(new URL(page.url()).pathname, "/search/_ui/");
    } finally {
      await prefixed.close();
    }
  });
  test("a key is asked for", async (page) => {
    const locked = await replay({ key: "page:secret" });
    try {
      await keyIsAskedFor(page, locked.base, "page:secret");
    } finally {
      await locked.close();
    }
  });
} else if (options.key !== undefined) {
  test("a key is asked for", (page) => keyIsAskedFor(page, base, options.key));
}

/** Console lines that a test provokes: the browser reports every refused or aborted request itself. */
const PROVOKED = /Failed to load resource/;

let failed = 0;
const chosen = tests.filter(({ name }) => name.includes(options.only));
for (const { name, run, settings } of chosen) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 900 },
    colorScheme: "light",
    ...settings,
  });
  if (options.key !== undefined && name !== "a key is asked for") {
    const key = Buffer.from(options.key).toString("base64");
    await context.addInitScript((value) => sessionStorage.setItem("orion-api-key", value), key);
  }
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.stack ?? String(error)));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on(
    "console",
    (message) =>
      ["error", "warning"].includes(message.type()) &&
      !PROVOKED.test(message.text()) &&
      complaints.push(message.text()),
  );
  page.on(
    "request",
    (request) => !request.url().startsWith("http://127.0.0.1") && complaints.push(`asked ${request.url()}`),
  );
  try {
    await run(page);
    assert.deepEqual(complaints, [], "the console is empty");
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.message}\n${complaints.join("\n")}`);
    await picture(page, `failed-${name.replace(/\W+/g, "-")}`).catch(() => {});
  }
  await context.close();
}
await browser.close();
await own?.close();
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
