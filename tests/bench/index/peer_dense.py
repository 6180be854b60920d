"""Approximate vector search by usearch, for comparison with `bench_dense` over the same file of vectors.

    pip install usearch numpy
    python peer_dense.py FILE [QUERIES] [f32|i8]

FILE is what `bench_dense write` makes; its last QUERIES vectors (300 where not said) are the queries. The last line of
the output is one JSON object. usearch's own defaults, one query at a time, cosine over 384 dimensions; recall is against
exact search by numpy.
"""

import json
import resource
import sys
import time

import numpy as np
from usearch.index import Index

DIMENSIONS = 384


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    numbers = sys.argv[3] if len(sys.argv) > 3 else "f32"
    everything = np.fromfile(sys.argv[1], dtype=np.float32).reshape(-1, DIMENSIONS)
    everything /= np.linalg.norm(everything, axis=1, keepdims=True)
    vectors, queries = everything[:-count], everything[-count:]
    index = Index(ndim=DIMENSIONS, metric="cos", dtype=numbers)
    start = time.perf_counter()
    index.add(np.arange(len(vectors)), vectors)
    built = time.perf_counter() - start
    figures = {
        "vectors": len(vectors),
        "build_vectors_per_s": round(len(vectors) / built, 1),
        "build_s": round(built, 3),
        "memory_mb": round(index.memory_usage / 1e6, 1),
        "build_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    for k in (10, 100):
        best = [set(np.argpartition(-(vectors @ query), k)[:k].tolist()) for query in queries]
        times, found = [], 0
        for timed in (False, True):
            for query, best_keys in zip(queries, best):
                start = time.perf_counter()
                matches = index.search(query, k)
                elapsed = (time.perf_counter() - start) * 1000
                if timed:
                    times.append(elapsed)
                else:
                    found += len(best_keys & set(matches.keys.tolist()))
        times.sort()
        figures[f"k{k}_p50_ms"] = round(times[len(times) // 2], 4)
        figures[f"k{k}_p99_ms"] = round(times[len(times) * 99 // 100], 4)
        figures[f"recall_at_{k}"] = round(found / (k * len(queries)), 4)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
