"""Exact vector search by public tools, for comparison with `bench_index`: usearch (exact) and numpy.

    pip install usearch numpy
    python peer.py [DOCUMENTS] [QUERIES]

The last line of the output is one JSON object. One query at a time, ten hits, cosine over 384 dimensions; how long
does not depend on the values, so they are drawn anew.
"""

import json
import sys
import time

import numpy as np

DIMENSIONS = 384


def percentiles(name, ask, queries):
    """Runs every query once to warm up and once timed."""
    for query in queries:
        ask(query)
    times = []
    for query in queries:
        start = time.perf_counter()
        ask(query)
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {f"{name}_p50_ms": round(times[len(times) // 2], 3), f"{name}_p99_ms": round(times[len(times) * 99 // 100], 3)}


def main():
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    random = np.random.default_rng(1)
    vectors = random.standard_normal((documents, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = random.standard_normal((count, DIMENSIONS), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)

    def by_numpy(query):
        scores = vectors @ query
        best = np.argpartition(-scores, 10)[:10]
        return best[np.argsort(-scores[best])]

    figures = percentiles("numpy", by_numpy, queries)
    from usearch.index import MetricKind, search

    figures |= percentiles(
        "dense", lambda query: search(vectors, query, 10, MetricKind.IP, exact=True, threads=0), queries
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
