"""Measures two `orion serve` processes over one PostgreSQL against one, with a small bounded load.

    python3 tests/peers/processes.py ORION MODELS POSTGRES_BIN

ORION is the binary, MODELS the folder with MiniLM, POSTGRES_BIN the `bin` folder of a PostgreSQL with pgvector (the tests
fetch one into the target folder). The bundled corpus is indexed, pushed, and asked for by CLIENTS threads, each question
once a round, by turns of both processes where there are two. Rounds alternate between one process and two, so that a noisy
machine is noisy for both. Prints JSON: medians over rounds of searches a second and of the median latency, and whether
every answer of the second process was the first one's, byte for byte but for the time it took.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CLIENTS = 8
ROUNDS = 3
QUESTIONS = 40
NOBODY = 65534
CORPUS = pathlib.Path(__file__).resolve().parents[2] / "corpus"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, path: str | None) -> None:
    for _ in range(600):
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def postgres(programs: pathlib.Path, folder: pathlib.Path) -> tuple[subprocess.Popen, int]:
    owner = {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}
    # Whoever runs it has to reach its files.
    installed = folder / "postgres"
    package = programs.parents[2]
    shutil.copytree(package, installed, symlinks=True)
    programs = installed / programs.relative_to(package)
    data = folder / "data"
    data.mkdir()
    if owner:
        os.chown(data, NOBODY, NOBODY)
    init = [programs / "initdb", "--username", "orion", "--auth", "trust", "--encoding", "UTF8", "--no-sync"]
    subprocess.run([*init, "--pgdata", data / "db"], check=True, stdout=subprocess.DEVNULL, cwd=data, **owner)
    port = free_port()
    serve = [programs / "postgres", "-D", data / "db", "-p", str(port)]
    serve += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    child = subprocess.Popen(serve, cwd=data, stderr=subprocess.DEVNULL, **owner)
    wait_for(port, None)
    return child, port


def search(connection: http.client.HTTPConnection, question: str) -> tuple[float, dict]:
    neural = {"neural": {"text": {"query_text": question, "k": 10}}}
    body = {"query": {"hybrid": {"queries": [{"match": {"text": question}}, neural]}}}
    started = time.perf_counter()
    connection.request("POST", "/notes/_search", json.dumps(body), {"content-type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    taken = time.perf_counter() - started
    if "hits" not in reply or reply["_shards"]["failed"]:
        sys.exit(f"no whole answer: {reply}")
    reply.pop("took")
    return taken, reply


def round_of(ports: list[int], questions: list[str]) -> tuple[float, float]:
    def client(number: int) -> list[float]:
        connections = [http.client.HTTPConnection("127.0.0.1", port) for port in ports]
        mine = questions[number::CLIENTS]
        return [search(connections[(number + at) % len(ports)], question)[0] for at, question in enumerate(mine)]

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        times = [taken for taken_by_one in pool.map(client, range(CLIENTS)) for taken in taken_by_one]
    return len(questions) / (time.perf_counter() - started), statistics.median(times) * 1e3


def main() -> None:
    orion, models, programs = (pathlib.Path(text).resolve() for text in sys.argv[1:4])
    questions = [json.loads(line)["text"] for line in (CORPUS / "queries.jsonl").open()][:QUESTIONS]
    children = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        try:
            database, port = postgres(programs, folder)
            children.append(database)
            config = folder / "orion.toml"
            halves = 'lexical = "pg"\ndense = "pg"\n'
            listen = [free_port(), free_port()]
            text = f'[backends.pg]\nkind = "postgres"\nurl = "postgres://orion@127.0.0.1:{port}/postgres"\n'
            text += f'collection = "notes"\ntimeout_ms = 20000\n[indices.notes]\n{halves}'
            config.write_text(text)
            usual = [orion, "--models-dir", models, "--quiet"]
            loading = [*usual, "--data-dir", folder / "home"]
            subprocess.run([*loading, "index", "add", "notes", CORPUS / "corpus.jsonl"], check=True)
            subprocess.run([*loading, "index", "push", "notes", "--to", "pg", "--config", config], check=True)
            for number, address in enumerate(listen):
                own = folder / f"{number}.toml"
                own.write_text(f'listen = "127.0.0.1:{address}"\n[log]\nlevel = "error"\n{text}')
                serve = [*usual, "--data-dir", folder / str(number), "serve", "--config", own]
                children.append(subprocess.Popen(serve, stderr=subprocess.DEVNULL))
                wait_for(address, "/_health/ready")
            print("ready", file=sys.stderr)
            both = [http.client.HTTPConnection("127.0.0.1", address) for address in listen]
            same = all(search(both[0], one)[1] == search(both[1], one)[1] for one in questions)
            measured = {1: [], 2: []}
            for _ in range(ROUNDS):
                for count in measured:
                    print(f"a round over {count}", file=sys.stderr)
                    measured[count].append(round_of(listen[:count], questions))
        finally:
            # The database last: it waits for those who are connected.
            for child in reversed(children):
                child.terminate()
                child.wait()
    shown = {"questions": len(questions), "clients": CLIENTS, "rounds": ROUNDS, "cores": os.cpu_count(), "same_answers": same}
    for count, rounds in measured.items():
        shown[f"processes_{count}"] = {
            "searches_per_second": round(statistics.median(rate for rate, _ in rounds), 1),
            "median_ms": round(statistics.median(latency for _, latency in rounds), 1),
        }
    print(json.dumps(shown, indent=1))


main()
