"""Runs the cases of `engines/tests/real` against the real Milvus: fetched, started, filled, searched.

    cargo build -p orion-engines --example milvus
    python3 tests/peers/milvus.py target/debug/examples/milvus

The standalone server comes as the Python package `milvus` (58 MB, its client as much again), which is kept in a folder beside the example. It
listens on every address there is, so it gets a network of its own in which there is only loopback: needs `unshare` and
`ip`, and root or user namespaces. Apart from the tests because it takes a minute and half a gigabyte.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

SERVER = "milvus==2.3.5"
# Makes the collection: version 1 of REST makes none whose keys are given.
CLIENT = ["pymilvus==2.3.7", "marshmallow<4"]
INSIDE = "--inside"


def fetched(example: pathlib.Path) -> pathlib.Path:
    folder = example.parent / SERVER.replace("==", "-")
    mark = folder / "complete"
    if not mark.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), SERVER, *CLIENT]
        subprocess.run(pip, check=True)
        mark.touch()
    return folder


def make_collection(port: int) -> None:
    from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections

    connections.connect(host="127.0.0.1", port=port)
    key = FieldSchema("id", DataType.INT64, is_primary=True, auto_id=False)
    vector = FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4)
    collection = Collection("orion_cases", CollectionSchema([key, vector], enable_dynamic_field=True))
    collection.create_index("vector", {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}})
    collection.load()


def inside(example: str, folder: str) -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sys.path.insert(0, folder)
    import milvus

    with tempfile.TemporaryDirectory() as data:
        server = milvus.MilvusServer(data_dir=data)
        # Its parts find one another by this address.
        for part in ["rootCoord", "proxy", "queryCoord", "queryNode", "indexCoord", "indexNode", "dataCoord", "dataNode"]:
            server.config.set(f"{part}.ip", "127.0.0.1")
        server.start()
        try:
            port = server.config.get("proxy_port")
            make_collection(port)
            return subprocess.run([example, f"http://127.0.0.1:{port}", "v1"]).returncode
        finally:
            server.stop()


def main() -> int:
    if sys.argv[1:2] == [INSIDE]:
        return inside(*sys.argv[2:])
    example = pathlib.Path(sys.argv[1]).resolve()
    folder = fetched(example)
    command = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    command += [sys.executable, str(pathlib.Path(__file__).resolve()), INSIDE, str(example), str(folder)]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
