// Writes recorded.json, what replay.mjs plays: real replies of a real server over the bundled corpus.
//
//   orion index add islands corpus/corpus.jsonl && orion serve &
//   node host/server/tests/ui/record.mjs http://127.0.0.1:9200 islands
//
// Nothing is changed in them but this: of a branch's hits the first forty are kept, for size.

import { writeFile } from "node:fs/promises";

const [base, index] = process.argv.slice(2);
const HITS_KEPT = 40;
const QUERY = "artist who stayed after the strange skies ended";

/** Searches by the names that replay.mjs looks for. */
const SEARCHES = {
  beam: { strategy: "beam" },
  hybrid: { strategy: "hybrid" },
  blind: { strategy: "blind" },
  fewRetrievals: { strategy: "beam", budget: { retrievals: 2 } },
  fewMilliseconds: { strategy: "beam", budget: { ms: 60 } },
  manyTurns: { strategy: "beam", params: { turns: "99" } },
  unknownParameter: { strategy: "beam", params: { nonsense: "1" } },
};

async function ask(path, body) {
  const response = await fetch(
    `${base}/${path}`,
    body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) },
  );
  return response.json();
}

const [version, strategies, all] = await Promise.all([
  ask("_orion/version"),
  ask("_orion/strategies"),
  ask("_cat/indices?format=json"),
]);
const recorded = {
  query: QUERY,
  version,
  strategies,
  indices: all.filter((one) => one.index === index),
  titles: {},
  replies: {},
};
const ids = new Set();
for (const [name, adaptive] of Object.entries(SEARCHES)) {
  const reply = await ask(`${index}/_search`, {
    query: { match: { text: QUERY } },
    size: 10,
    ext: { adaptive: { ...adaptive, trace: true } },
  });
  for (const branch of reply.ext?.adaptive.tree.branches ?? []) {
    branch.hits = branch.hits.slice(0, HITS_KEPT);
    for (const { id } of branch.hits) ids.add(id);
  }
  recorded.replies[name] = reply;
}
const { docs } = await ask(`${index}/_mget?_source_includes=title`, { ids: [...ids].sort() });
for (const { _id, _source } of docs) recorded.titles[_id] = _source.title;
await writeFile(new URL("recorded.json", import.meta.url), `${JSON.stringify(recorded)}\n`);
