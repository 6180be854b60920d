"""What the guides of opensearch-py show, against the server on the given port of this machine."""

import random
import sys

from opensearchpy import ConflictError, NotFoundError, OpenSearch, RequestError, helpers

client = OpenSearch(hosts=[{"host": "127.0.0.1", "port": int(sys.argv[1])}], timeout=300)
assert client.info()["version"]["distribution"] == "opensearch"
assert client.ping()

index = "python-test-index"
made = client.indices.create(index=index, body={"settings": {"index": {"number_of_shards": 4}}})
assert made["acknowledged"] and client.indices.exists(index=index)
try:
    client.indices.create(index=index)
    raise AssertionError("made twice")
except RequestError as error:
    assert error.error == "resource_already_exists_exception"

# Document life cycle.
document = {"title": "Moneyball", "director": "Bennett Miller", "year": "2011"}
assert client.index(index=index, body=document, id="1", refresh=True)["result"] == "created"
assert client.get(index=index, id="1")["_source"] == document
assert client.exists(index=index, id="1")
client.update(index=index, id="1", body={"doc": {"year": 2012}})
assert client.get(index=index, id="1", _source_includes=["year"])["_source"] == {"year": 2012}
try:
    client.create(index=index, id="1", body=document)
    raise AssertionError("created twice")
except ConflictError as error:
    assert error.status_code == 409
found = client.mget(index=index, body={"docs": [{"_id": "1"}, {"_id": "2"}]})["docs"]
assert [one["found"] for one in found] == [True, False]
response = client.search(
    index=index,
    body={"size": 5, "query": {"multi_match": {"query": "miller", "fields": ["title^2", "director"]}}},
)
assert response["hits"]["hits"][0]["_id"] == "1"
assert client.delete(index=index, id="1", refresh=True)["result"] == "deleted"
try:
    client.get(index=index, id="1")
    raise AssertionError("found again")
except NotFoundError as error:
    assert error.status_code == 404

# Bulk, with the helpers.
actions = ({"_index": index, "_id": number, "title": f"film {number}", "number": 1900 + number} for number in range(120))
assert helpers.bulk(client, actions, chunk_size=50, refresh=True) == (120, [])
ok, failed = helpers.bulk(
    client,
    [
        {"_op_type": "create", "_index": index, "_id": 7, "title": "again"},
        {"_op_type": "delete", "_index": index, "_id": 8},
        {"_op_type": "update", "_index": index, "_id": 9, "doc": {"title": "changed"}},
    ],
    raise_on_error=False,
    refresh=True,
)
assert ok == 2 and failed[0]["create"]["status"] == 409
assert client.count(index=index)["count"] == 119
assert client.get(index=index, id=9)["_source"]["title"] == "changed"

# Search, scroll, msearch, point in time.
page = client.search(index=index, q="title:film", size=2, sort="number:desc")
assert [hit["_id"] for hit in page["hits"]["hits"]] == ["119", "118"]
ids = {hit["_id"] for hit in helpers.scan(client, index=index, size=25, query={"query": {"match_all": {}}})}
assert len(ids) == 119 and "8" not in ids
both = client.msearch(
    body=[{"index": index}, {"query": {"term": {"number": 1950}}}, {"index": index}, {"query": {"range": {"number": {"lt": 1905}}}}]
)
assert [one["hits"]["total"]["value"] for one in both["responses"]] == [1, 5]
pit = client.create_pit(index=index, params={"keep_alive": "1m"})["pit_id"]
body = {"size": 50, "pit": {"id": pit, "keep_alive": "1m"}, "sort": [{"number": "asc"}]}
seen = []
while hits := client.search(body=body)["hits"]["hits"]:
    seen += [hit["_id"] for hit in hits]
    body["search_after"] = hits[-1]["sort"]
assert len(seen) == 119 and seen[0] == "0"
assert client.delete_pit(body={"pit_id": [pit]})["pits"][0]["successful"]

# Search pipelines, the adaptive one among them.
client.search_pipeline.put(id="mine", body={"request_processors": [{"adaptive": {"strategy": "lexical", "trace": True}}]})
assert "mine" in client.search_pipeline.get(id="mine")
reply = client.search(index=index, body={"query": {"match": {"title": "changed"}}}, params={"search_pipeline": "mine"})
assert reply["hits"]["hits"][0]["_id"] == "9" and reply["ext"]["adaptive"]["tree"]["branches"]
client.search_pipeline.delete(id="mine")

# Vectors, as the samples for k-NN show them: without a space, which is then l2, and with a filter of each kind, over a
# field of an object.
random.seed(1)
dimensions = 5
body = {
    "settings": {"index.knn": True},
    "mappings": {"properties": {"values": {"type": "knn_vector", "dimension": dimensions}}},
}
assert client.indices.create(index="my-index", body=body)["acknowledged"]
genres = ["fiction", "drama", "romance"]
books = [
    {
        "_index": "my-index",
        "_id": number,
        "values": [round(random.uniform(0, 1), 2) for _ in range(dimensions)],
        "metadata": {"genre": random.choice(genres)},
    }
    for number in range(300)
]
assert helpers.bulk(client, books) == (300, [])
client.indices.refresh(index="my-index")


def distance(left, right):
    return sum((one - other) ** 2 for one, other in zip(left, right))


vector = [round(random.uniform(0, 1), 2) for _ in range(dimensions)]
nearest = sorted(books, key=lambda book: distance(vector, book["values"]))
hits = client.search(index="my-index", body={"query": {"knn": {"values": {"vector": vector, "k": 3}}}})["hits"]["hits"]
assert [hit["_id"] for hit in hits] == [str(book["_id"]) for book in nearest[:3]]
for hit, book in zip(hits, nearest):
    assert abs(hit["_score"] - 1 / (1 + distance(vector, book["values"]))) < 1e-6
    assert hit["_source"] == {"values": book["values"], "metadata": book["metadata"]}
query = {
    "bool": {
        "filter": {"bool": {"must": [{"term": {"metadata.genre": "drama"}}]}},
        "must": {"knn": {"values": {"vector": vector, "k": 5}}},
    }
}
hits = client.search(index="my-index", body={"query": query})["hits"]["hits"]
assert [hit["_id"] for hit in hits] == [str(book["_id"]) for book in nearest[:5] if book["metadata"]["genre"] == "drama"]

method = {"name": "hnsw", "space_type": "l2", "engine": "lucene", "parameters": {"ef_construction": 100, "m": 16}}
body = {
    "settings": {"index.knn": True, "knn.algo_param.ef_search": 100, "number_of_shards": 1, "number_of_replicas": 0},
    "mappings": {"properties": {"location": {"type": "knn_vector", "dimension": 2, "method": method}}},
}
client.indices.create(index="hotels-index", body=body)
hotels = [
    ([5.2, 4.4], "true", 5),
    ([5.2, 3.9], "false", 4),
    ([4.9, 3.4], "true", 9),
    ([4.2, 4.6], "false", 6),
    ([3.3, 4.5], "true", 8),
    ([6.4, 3.4], "true", 9),
    ([4.2, 6.2], "true", 5),
    ([2.4, 4.0], "true", 8),
]
actions = [
    {"_index": "hotels-index", "_id": str(number), "location": location, "parking": parking, "rating": rating}
    for number, (location, parking, rating) in enumerate(hotels)
]
assert helpers.bulk(client, actions, refresh=True) == (8, [])
wanted = {"bool": {"must": [{"range": {"rating": {"gte": 8, "lte": 10}}}, {"term": {"parking": "true"}}]}}
query = {"knn": {"location": {"vector": [5, 4], "k": 3, "filter": wanted}}}
hits = client.search(index="hotels-index", body={"size": 3, "query": query})["hits"]["hits"]
assert [hit["_id"] for hit in hits] == ["2", "5", "4"]
for name in ["my-index", "hotels-index"]:
    client.indices.delete(index=name)

# Objects: defined by `properties` in `properties`, put, changed in parts, searched, ordered and shown by their paths.
body = {
    "mappings": {
        "properties": {
            "name": {"type": "text"},
            "address": {"properties": {"city": {"type": "keyword"}, "location": {"properties": {"floor": {"type": "integer"}}}}},
        }
    }
}
client.indices.create(index="people", body=body)
people = [
    {"name": "John Doe", "address": {"city": "Paris", "location": {"floor": 3}}, "phones": [{"kind": "home", "number": "1 2"}]},
    {"name": "Jane Doe", "address": {"city": "Rome", "location": {"floor": 7}}},
]
assert helpers.bulk(client, [{"_index": "people", "_id": number, **one} for number, one in enumerate(people)]) == (2, [])
client.update(index="people", id="0", body={"doc": {"address": {"location": {"floor": 4}}}}, refresh=True)
query = {"bool": {"must": {"match": {"name": "doe"}}, "filter": {"term": {"address.city": "Paris"}}}}
reply = client.search(index="people", body={"query": query, "_source": ["address.location"]})
assert [hit["_source"] for hit in reply["hits"]["hits"]] == [{"address": {"location": {"floor": 4}}}]
page = client.search(index="people", body={"sort": [{"address.location.floor": {"order": "desc"}}]})
assert [hit["_id"] for hit in page["hits"]["hits"]] == ["1", "0"]
assert client.count(index="people", body={"query": {"match": {"phones.number": "2"}}})["count"] == 1
properties = client.indices.get_mapping(index="people")["people"]["mappings"]["properties"]
assert properties["phones"]["properties"]["kind"]["fields"]["keyword"]["type"] == "keyword"
try:
    client.indices.put_mapping(index="people", body={"properties": {"phones": {"type": "nested"}}})
    raise AssertionError("kept apart")
except RequestError as error:
    assert error.error == "mapper_parsing_exception" and "nested" in str(error.info)
client.indices.delete(index="people")

# Mappings, settings, the list of indices, clean-up.
client.indices.put_mapping(index=index, body={"properties": {"kind": {"type": "keyword"}}})
assert client.indices.get_mapping(index=index)[index]["mappings"]["properties"]["kind"]["type"] == "keyword"
assert client.cat.indices(format="json")[0]["docs.count"] == "119"
assert client.cluster.health()["status"] == "green"
assert client.indices.delete(index=index)["acknowledged"]
assert not client.indices.exists(index=index)
print("all done")
