"""The loads of host/policy/examples/bench_gguf.rs on llama.cpp, through llama-cpp-python, with the same GGUF.

The tree is searched as that library lets one: one sequence at a time, the context saved before the children of a node
and restored for each of them, so that prefixes are read once here too. Tokens are chosen greedily; what they say does
not matter, their number is the same. Prints one JSON object with the keys of the benchmark.
"""

import argparse
import json
import time

from llama_cpp import Llama

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
for name in ("threads", "turns", "beam", "children", "tokens", "prefix", "response"):
    parser.add_argument(f"--{name}", type=int, required=True)
args = parser.parse_args()

longest = args.prefix + args.turns * (args.tokens + args.response + 8) + 64
started = time.perf_counter()
model = Llama(
    args.model, n_ctx=longest, n_batch=256, n_threads=args.threads, n_threads_batch=args.threads, verbose=False
)
out = {"load_s": time.perf_counter() - started}


def text(count):
    return [300 + index % 1000 for index in range(count)]


def write(count):
    for _ in range(count):
        model.eval([model.sample(temp=0.0)])


model.eval(text(8))
model.reset()
started = time.perf_counter()
model.eval(text(args.prefix))
out["prefill_tokens_per_s"] = args.prefix / (time.perf_counter() - started)
root = model.save_state()

started = time.perf_counter()
write(args.tokens)
out["decode_tokens_per_s"] = args.tokens / (time.perf_counter() - started)

started = time.perf_counter()
nodes = [root]
for _ in range(args.turns):
    children = []
    for node in nodes:
        for _ in range(args.children):
            model.load_state(node)
            write(args.tokens)
            model.eval(text(args.response))
            if len(children) < args.beam:
                children.append(model.save_state())
    nodes = children
out["tree_s"] = time.perf_counter() - started
print(json.dumps(out))
