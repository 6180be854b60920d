"""The loads of host/policy/examples/bench_gguf.rs on llama.cpp, through llama-cpp-python, with the same GGUF.

The tree is searched as that library lets one: one sequence at a time, the context saved before the children of a node
and restored for each of them, so that prefixes are read once here too. Tokens are chosen greedily; what they say does
not matter, their number is the same.
"""

import ctypes
import time

import llama_cpp

from turns import options, serve, text

args = options()


class Peer:
    def __init__(self):
        longest = args.prefix + args.turns * (args.tokens + args.response + 8) + 64
        threads = {"n_threads": args.threads, "n_threads_batch": args.threads}
        self.model = llama_cpp.Llama(args.model, n_ctx=longest, n_batch=256, verbose=False, **threads)
        self.prompt = None

    # The library's own `save_state` copies a table of logits each time, which nobody here reads.
    def save(self):
        context = self.model._ctx.ctx
        state = (ctypes.c_uint8 * llama_cpp.llama_state_get_size(context))()
        size = llama_cpp.llama_state_get_data(context, state, len(state))
        return self.model.n_tokens, state, size

    def restore(self, saved):
        tokens, state, size = saved
        if llama_cpp.llama_state_set_data(self.model._ctx.ctx, state, size) != size:
            raise RuntimeError("restoring the context failed")
        self.model.n_tokens = tokens

    def prefill(self):
        self.model.reset()
        self.model.eval(text(args.prefix))
        self.prompt = None

    def at_prompt(self):
        if self.prompt is None:
            self.prompt = self.save()
        self.restore(self.prompt)
        return self.prompt

    def decode(self):
        for _ in range(args.tokens):
            self.model.eval([self.model.sample(temp=0.0)])

    def tree_turn(self, nodes):
        children = []
        for node in nodes:
            for _ in range(args.children):
                self.restore(node)
                self.decode()
                self.model.eval(text(args.response))
                if len(children) < args.beam:
                    children.append(self.save())
        return children


started = time.perf_counter()
peer = Peer()
serve(time.perf_counter() - started, peer)
