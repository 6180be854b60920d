// The page's own arithmetic, module by module, against answers that are known or that a slow twin finds. Runs inside the
// page (page.mjs hands it over), since the modules are written for a browser.

/** Gives what is wrong, one line each. */
export async function arithmetic() {
  const at = (name) => import(new URL(name, location.href).href);
  const [{ readState, writeState }, { events, toRefusal }, { snippetOf }, { Grove }, { rounds }] = await Promise.all(
    ["state.js", "api.js", "ranking.js", "grove.js", "cost.js"].map(at),
  );
  const found = [];
  const same = (what, got, expected) => {
    if (JSON.stringify(got) !== JSON.stringify(expected))
      found.push(`${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);
  };

  const state = {
    query: "a & b ~ c=d %41 ü",
    index: "i",
    size: 7,
    followed: ["x&y", "z~"],
    choices: [
      {
        strategy: "beam~=x",
        parameters: { "a~b": "c=~%7E", turns: "3" },
        budget: { ms: "5" },
        search: { seed: "2" },
      },
      { strategy: "hybrid", parameters: {}, budget: {}, search: {} },
    ],
  };
  same("an address says it all", readState(writeState(state)), {
    query: state.query,
    index: "i",
    size: 7,
    choices: state.choices,
    followed: state.followed,
  });
  same("a broken address", readState("?size=-1&s=%25E0%25&s=&doc=a&doc=a"), {
    query: "",
    index: "",
    size: 10,
    choices: [{ strategy: "%E0%", parameters: {}, budget: {}, search: {} }],
    followed: ["a"],
  });

  // Server-sent events cut at every byte, with either line end.
  for (const end of ["\n", "\r\n"]) {
    const bytes = new TextEncoder().encode(
      [
        ": hello",
        "",
        "event: branch",
        'data: {"a":',
        'data:"ü"}',
        "",
        "event: result",
        "data: 1",
        "",
        "event: lost",
        "data: 2",
      ].join(end),
    );
    for (let cut = 0; cut <= bytes.length; cut++) {
      const got = [];
      const body = new ReadableStream({
        start(sink) {
          sink.enqueue(bytes.slice(0, cut));
          sink.enqueue(bytes.slice(cut));
          sink.close();
        },
      });
      for await (const event of events(body)) got.push(event);
      same(`events cut at ${cut}`, got, [
        { name: "branch", data: '{"a":\n"ü"}' },
        { name: "result", data: "1" },
      ]);
    }
  }

  same("an error in words", toRefusal({ error: "no" }, 500).message, "no");
  same("an error without a body", toRefusal(null, 502).message, "the server answered with status 502");

  // The snippet has as many of the query's words as the best window that a search of all windows finds.
  const words = ["lens", "prism"];
  for (let seed = 1; seed < 60; seed++) {
    let state = seed;
    const next = (below) => (state = (state * 48271) % 2147483647) % below;
    const text = Array.from(
      { length: 120 },
      () => ["lens", "prism", "a", "the", "lighthouse", "of", "water", "sea"][next(8)],
    ).join(" ");
    const hits = (part) => part.split(" ").filter((word) => words.includes(word)).length;
    const starts = [...text.matchAll(/\S+/g)].map(({ index }) => index);
    const best = Math.max(
      ...starts.map((start) =>
        hits(
          starts
            .filter((one) => start <= one && one < start + 220)
            .map((one) => text.slice(one).split(" ", 1)[0])
            .join(" "),
        ),
      ),
    );
    const got = hits(snippetOf(text, words).replace(/…/g, ""));
    if (got < best) found.push(`snippet of seed ${seed}: expected ${best} words, got ${got}`);
  }

  const grove = new Grove();
  const branch = (number, parent, turn) => ({
    branch: number,
    parent,
    turn,
    hits: number === 2 ? [{ id: "d" }] : [],
  });
  grove.put(branch(2, 1, 2)); // Before its parent.
  grove.put(branch(0, null, 0));
  grove.put(branch(3, 0, 1));
  same(
    "an orphan is a root",
    grove.walk().map((step) => [step.branch.branch, step.level]),
    [
      [0, 1],
      [3, 2],
      [2, 1],
    ],
  );
  grove.put(branch(1, 0, 1));
  same(
    "and comes home",
    grove.walk().map((step) => [step.branch.branch, step.level, step.place, step.siblings, step.children]),
    [
      [0, 1, 1, 1, 2],
      [1, 2, 1, 2, 1],
      [2, 3, 1, 1, 0],
      [3, 2, 2, 2, 0],
    ],
  );
  same(
    "ranks",
    grove.ranksOf("d").map(({ turn, rank }) => [turn, rank]),
    [[2, 1]],
  );
  const calls = (text) => text.split(" ").map((call) => ({ call }));
  same(
    "rounds",
    rounds(calls("policy.extend policy.propose retrieval.search policy.propose")).map((round) => round.length),
    [1, 2, 1],
  );
  same(
    "rounds without a policy",
    rounds(calls("retrieval.search retrieval.documents retrieval.search")).map((round) => round.length),
    [2, 1],
  );
  return found;
}
