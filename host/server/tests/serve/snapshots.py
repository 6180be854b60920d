"""Snapshots as people take them with opensearch-py, while documents come in.

Run by snapshots.rs with the port of a server whose configuration has a folder for repositories.
"""

import sys
import threading
import time

from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import NotFoundError, RequestError

client = OpenSearch(hosts=[{"host": "127.0.0.1", "port": int(sys.argv[1])}], timeout=300, max_retries=0)
snapshot = client.snapshot

assert snapshot.create_repository(
    repository="backup", body={"type": "fs", "settings": {"location": "daily/notes", "compress": True}}
)["acknowledged"]
assert snapshot.get_repository(repository="backup")["backup"]["settings"]["location"] == "daily/notes"

mapping = {"mappings": {"properties": {"title": {"type": "text"}, "batch": {"type": "integer"}}}}
client.indices.create(index="notes", body=mapping)
client.indices.create(index="other", body={})
client.index(index="other", id="1", body={"title": "not asked for"}, refresh=True)

BATCH = 10
written = 0
stop = threading.Event()


def write():
    """Whole batches: a copy holds all of a batch or, where the copy came first, none of it."""
    global written
    batch = 0
    while not stop.is_set():
        actions = [
            {"_index": "notes", "_id": f"b{batch}-{number}", "title": f"note {number}", "batch": batch}
            for number in range(BATCH)
        ]
        helpers.bulk(client, actions, refresh=batch % 3 == 0)
        written = batch = batch + 1


writer = threading.Thread(target=write)
writer.start()
names = []
try:
    while written < 3:
        time.sleep(0.01)
    for number in range(4):
        before = written
        name = f"snap-{number}"
        taken = snapshot.create(
            repository="backup", snapshot=name, body={"indices": "notes", "metadata": {"by": "a test"}},
            wait_for_completion=True,
        )["snapshot"]
        assert (taken["state"], taken["indices"], taken["metadata"]) == ("SUCCESS", ["notes"], {"by": "a test"}), taken
        names.append((name, before))
    # Writing went on meanwhile.
    reached = written
    while written == reached:
        time.sleep(0.01)
finally:
    stop.set()
    writer.join()

for name, before in names:
    restored = snapshot.restore(
        repository="backup", snapshot=name, wait_for_completion=True,
        body={"rename_pattern": "(.+)", "rename_replacement": f"$1_{name}"},
    )["snapshot"]
    target = f"notes_{name}"
    assert restored["indices"] == [target], restored
    count = client.count(index=target)["count"]
    assert count >= before * BATCH and count % BATCH == 0, (count, before)
    last = count // BATCH - 1
    assert client.count(index=target, body={"query": {"term": {"batch": last}}})["count"] == BATCH
    assert client.get(index=target, id="b0-0")["_source"] == {"title": "note 0", "batch": 0}
    assert client.indices.get_mapping(index=target)[target]["mappings"]["properties"]["batch"]["type"] == "integer"

# What is restored is an index like any other, and no other index's business.
client.index(index="notes_snap-0", id="new", body={"title": "later"}, refresh=True)
assert not client.exists(index="notes", id="new")
client.delete(index="notes_snap-0", id="b0-0", refresh=True)
assert client.exists(index="notes", id="b0-0")
assert client.exists(index="notes_snap-1", id="b0-0")
client.indices.delete(index="notes")
snapshot.restore(repository="backup", snapshot="snap-3", wait_for_completion=True)
assert client.exists(index="notes", id="b0-0")

# Lists, states, slips.
listed = snapshot.get(repository="backup", snapshot="_all")["snapshots"]
assert [one["snapshot"] for one in listed] == [f"snap-{number}" for number in range(4)], listed
assert [one["snapshot"] for one in snapshot.get(repository="backup", snapshot="*-2,snap-0")["snapshots"]] == [
    "snap-2",
    "snap-0",
]


def refused(kind, status, call, **arguments):
    try:
        call(**arguments)
    except (RequestError, NotFoundError) as error:
        assert (error.status_code, error.error) == (status, kind), error
    else:
        raise AssertionError(f"{kind} was not refused")


refused("snapshot_missing_exception", 404, snapshot.get, repository="backup", snapshot="none")
refused("repository_missing_exception", 404, snapshot.get, repository="none", snapshot="_all")
refused("snapshot_missing_exception", 404, snapshot.restore, repository="backup", snapshot="none")
refused("invalid_snapshot_name_exception", 400, snapshot.create, repository="backup", snapshot="snap-0")
refused("index_not_found_exception", 404, snapshot.create, repository="backup", snapshot="n", body={"indices": "none"})
refused("snapshot_restore_exception", 400, snapshot.restore, repository="backup", snapshot="snap-0")

# Without waiting: accepted, then there.
assert snapshot.create(repository="backup", snapshot="later", wait_for_completion=False) == {"accepted": True}
while (state := snapshot.get(repository="backup", snapshot="later")["snapshots"][0]["state"]) != "SUCCESS":
    assert state == "IN_PROGRESS", state
    time.sleep(0.01)
assert "other" in snapshot.get(repository="backup", snapshot="later")["snapshots"][0]["indices"]

assert snapshot.delete(repository="backup", snapshot="snap-0,later")["acknowledged"]
refused("snapshot_missing_exception", 404, snapshot.delete, repository="backup", snapshot="snap-0")
# Forgotten, not deleted: under the same place it is all there again, for reading alone.
snapshot.delete_repository(repository="backup")
refused("repository_missing_exception", 404, snapshot.get_repository, repository="backup")
snapshot.create_repository(
    repository="again", body={"type": "fs", "settings": {"location": "daily/notes", "readonly": True}}
)
assert len(snapshot.get(repository="again", snapshot="_all")["snapshots"]) == 3
refused("repository_exception", 400, snapshot.create, repository="again", snapshot="n")
refused("repository_exception", 400, snapshot.delete, repository="again", snapshot="snap-1")
print("all done")
