"""The loads of host/policy/examples/bench_gguf.rs on transformers and torch, with the same checkpoint folder.

The tree is searched as a user of that library would: the cache of a node is copied and repeated for its children,
which are decoded and read as one batch; so prefixes are read once here too. Tokens are chosen greedily. Weights are in
f32 or bf16, whichever decodes faster here.
"""

import copy
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from turns import options, serve, text

args = options()
torch.set_num_threads(args.threads)


class Peer:
    def __init__(self, number_type):
        self.model = AutoModelForCausalLM.from_pretrained(args.model, dtype=number_type).eval()
        self.prompt = None
        self.here = None

    def read(self, tokens, cache):
        """The likeliest next token of each sequence, `[batch, 1]`."""
        output = self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1].argmax(-1, keepdim=True)

    def write(self, cache, following):
        for _ in range(args.tokens):
            following = self.read(following, cache)
        return following

    def prefill(self):
        cache = DynamicCache(config=self.model.config)
        self.prompt = (cache, self.read(torch.tensor([text(args.prefix)]), cache))

    def at_prompt(self):
        self.here = copy.deepcopy(self.prompt)
        return self.prompt

    def decode(self):
        self.write(*self.here)

    def tree_turn(self, nodes):
        survivors = []
        for node, following in nodes:
            cache = copy.deepcopy(node)
            cache.reorder_cache(torch.zeros(args.children, dtype=torch.long))
            self.write(cache, following.expand(args.children, 1))
            following_children = self.read(torch.tensor([text(args.response)] * args.children), cache)
            for child in range(min(args.children, args.beam - len(survivors))):
                own = copy.deepcopy(cache)
                own.reorder_cache(torch.tensor([child]))
                survivors.append((own, following_children[child : child + 1]))
        return survivors


def faster():
    """The peer with the quicker numbers and what loading it took."""
    best = None
    for number_type in (torch.float32, torch.bfloat16):
        started = time.perf_counter()
        peer = Peer(number_type)
        load_s = time.perf_counter() - started
        cache = DynamicCache(config=peer.model.config)
        following = peer.read(torch.tensor([text(8)]), cache)
        started = time.perf_counter()
        for _ in range(4):
            following = peer.read(following, cache)
        token_s = (time.perf_counter() - started) / 4
        if best is None or token_s < best[0]:
            best = (token_s, load_s, peer)
    return best[1:]


with torch.inference_mode():
    serve(*faster())
