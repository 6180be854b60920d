"""What the peers of host/policy/examples/bench_gguf.rs share: their options, and the lines that they exchange with it.

The benchmark starts a peer once and takes turns with it, so that whatever else the machine does falls on both:
  stdin   `prefill`, `decode`, or `tree K` for turn K of a tree, whose turn 0 begins anew at the prompt
  stdout  {"load_s": s} once, then {"seconds": s} for each line
"""

import argparse
import json
import sys
import time

LOADS = ("threads", "turns", "beam", "children", "tokens", "prefix", "response")


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    for name in LOADS:
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def text(count):
    """Tokens of a prompt; what they say does not matter."""
    return [300 + index % 1000 for index in range(count)]


def answer(value):
    print(json.dumps(value), flush=True)


def serve(load_s, peer):
    """`peer` has `prefill()`, which leaves the prompt read; `at_prompt()`, which is not timed; `decode()`; and
    `tree_turn(nodes)`, which gives the nodes of the next turn."""
    peer.prefill()
    answer({"load_s": load_s})
    nodes = None
    for line in sys.stdin:
        load, *turn = line.split()
        if load == "decode":
            peer.at_prompt()
        if load == "tree" and turn == ["0"]:
            nodes = [peer.at_prompt()]
        started = time.perf_counter()
        if load == "prefill":
            peer.prefill()
        elif load == "decode":
            peer.decode()
        else:
            nodes = peer.tree_turn(nodes)
        answer({"seconds": time.perf_counter() - started})
