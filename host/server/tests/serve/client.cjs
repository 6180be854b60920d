// What the guides of @opensearch-project/opensearch show, against the server on the given port of this machine.
"use strict";
const assert = require("node:assert");
const { Client } = require("@opensearch-project/opensearch");

async function main() {
  const client = new Client({ node: `http://127.0.0.1:${process.argv[2]}`, requestTimeout: 300000 });
  assert.equal((await client.info()).body.version.distribution, "opensearch");
  const index = "books";
  const mappings = { properties: { title: { type: "text" }, author: { type: "keyword" }, year: { type: "integer" } } };
  assert.ok((await client.indices.create({ index, body: { mappings } })).body.acknowledged);
  assert.equal((await client.indices.exists({ index })).body, true);

  // Documents.
  const book = { title: "The Outsider", author: "Stephen King", year: 2018 };
  assert.equal((await client.index({ index, id: "1", body: book, refresh: true })).body.result, "created");
  assert.deepEqual((await client.get({ index, id: "1" })).body._source, book);
  await client.update({ index, id: "1", body: { doc: { year: 2019 } } });
  await assert.rejects(client.create({ index, id: "1", body: book }), (error) => error.statusCode === 409);

  // The bulk helper.
  const dataset = Array.from({ length: 60 }, (_, number) => ({ title: `volume ${number}`, author: "nobody", year: number }));
  const result = await client.helpers.bulk({
    datasource: dataset,
    flushBytes: 1000,
    onDocument: (document) => ({ index: { _index: index, _id: `v${document.year}` } }),
    refreshOnCompletion: true,
  });
  assert.deepEqual([result.total, result.failed], [60, 0]);
  const partly = await client.bulk({
    refresh: true,
    body: [{ create: { _index: index, _id: "v1" } }, { title: "again" }, { delete: { _index: index, _id: "v2" } }],
  });
  assert.deepEqual([partly.body.errors, partly.body.items[0].create.status, partly.body.items[1].delete.status], [true, 409, 200]);

  // Search, scroll, msearch.
  const found = await client.search({ index, body: { query: { match: { title: { query: "outsider" } } } } });
  assert.equal(found.body.hits.hits[0]._source.year, 2019);
  let seen = 0;
  for await (const page of client.helpers.scrollSearch({ index, body: { size: 25, query: { term: { author: "nobody" } } } })) {
    seen += page.documents.length;
  }
  assert.equal(seen, 59);
  const both = await client.msearch({
    body: [{ index }, { query: { match: { title: "outsider" } } }, { index }, { query: { range: { year: { lt: 10 } } } }],
  });
  assert.deepEqual(both.body.responses.map((one) => one.hits.total.value), [1, 9]);
  await assert.rejects(client.search({ index, body: { query: { mach: {} } } }), (error) => error.statusCode === 400);

  // Objects, by their paths.
  const shop = { name: "corner", owner: { name: { first: "Ada", last: "Stone" } }, hours: [{ day: "mon", open: 8 }, { day: "sat", open: 10 }] };
  await client.index({ index, id: "shop", body: shop, refresh: true });
  const query = { bool: { must: { match: { "owner.name.first": "ada" } }, filter: { range: { "hours.open": { gte: 9, lt: 11 } } } } };
  const shops = await client.search({ index, body: { query, sort: [{ "owner.name.last.keyword": "asc" }], _source: ["hours.day"] } });
  assert.deepEqual(shops.body.hits.hits.map((hit) => hit._source), [{ hours: [{ day: "mon" }, { day: "sat" }] }]);
  await client.delete({ index, id: "shop", refresh: true });

  // Pipelines, by the plain transport, as the guide has it for what has no method.
  const pipeline = { request_processors: [{ adaptive: { strategy: "lexical", trace: true } }] };
  await client.transport.request({ method: "PUT", path: "/_search/pipeline/mine", body: pipeline });
  const adaptive = await client.search({ index, search_pipeline: "mine", body: { query: { match: { title: "outsider" } } } });
  assert.equal(adaptive.body.ext.adaptive.tree.strategy, "lexical");
  await client.transport.request({ method: "DELETE", path: "/_search/pipeline/mine" });

  assert.equal((await client.delete({ index, id: "1" })).body.result, "deleted");
  assert.ok((await client.indices.delete({ index })).body.acknowledged);
  console.log("all done");
}

main().catch((error) => {
  console.error(error.meta ? JSON.stringify(error.meta.body) : "", error);
  process.exit(1);
});
