"""How schemathesis makes bodies of lines of JSON: actions and documents, mostly in order, sometimes not."""

import json

import schemathesis
from hypothesis import strategies as st

names = st.sampled_from(["notes", "more", "", "_all", "A", "no/where"])
ids = st.one_of(st.none(), st.text(max_size=8), st.integers())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["title", "text", "year", "kind", "x.y", ""]), values, max_size=4)
actions = st.builds(
    lambda kind, index, id: {kind: {"_index": index, **({} if id is None else {"_id": id})}},
    st.sampled_from(["index", "create", "update", "delete", "other"]),
    names,
    ids,
)
searches = st.builds(lambda index, query: {"index": index, "query": query}, names, values)
lines = st.lists(st.one_of(actions, documents, searches, values), max_size=8)
schemathesis.openapi.media_type(
    "application/x-ndjson", lines.map(lambda all: "".join(json.dumps(one) + "\n" for one in all).encode())
)
