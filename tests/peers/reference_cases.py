"""Golden numbers of a policy checkpoint by somebody else's engine, for `orion policy check --cases`.

    python tests/peers/reference_cases.py transformers FOLDER > cases.json
    python tests/peers/reference_cases.py llama.cpp FILE.gguf > cases.json
    orion policy check --model FOLDER --cases cases.json

Needs `torch` and `transformers`, or `llama-cpp-python`. Token ids are drawn by a fixed rule from the vocabulary, so both
engines and every run see the same sequences; greedy continuations are 24 tokens long.
"""

import json
import sys

LENGTHS = [1, 5, 17, 64]
GREEDY = 24
# A llama.cpp file has its matrices in f16, and so has its key-value cache.
TOLERANCE = {"transformers": 2e-3, "llama.cpp": 5e-2}


def sequences(vocabulary):
    """One sequence a length, by a linear congruence (Numerical Recipes' constants), special tokens left out."""
    state = 1
    for length in LENGTHS:
        ids = []
        for _ in range(length):
            state = (1664525 * state + 1013904223) % 2**32
            ids.append(16 + state % (vocabulary - 16))
        yield ids


def by_transformers(folder):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    provenance = {"transformers": transformers.__version__, "torch": torch.__version__, "dtype": "float32"}

    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].tolist()

    return provenance, model.config.vocab_size, logits


def by_llama_cpp(path):
    import llama_cpp

    model = llama_cpp.Llama(path, n_ctx=512, logits_all=True, verbose=False, n_threads=2)
    provenance = {"llama_cpp": llama_cpp.__version__, "dtype": "as in the file"}

    def logits(ids):
        model.reset()
        model.eval(ids)
        return [[float(value) for value in row] for row in model.scores[: len(ids)]]

    return provenance, model.n_vocab(), logits


def case(ids, logits):
    import math

    rows = logits(ids)
    best = [max(range(len(row)), key=row.__getitem__) for row in rows]
    greedy, log_probabilities, context, last = [], [], list(ids), rows[-1]
    for _ in range(GREEDY):
        top = max(range(len(last)), key=last.__getitem__)
        peak = last[top]
        log_probabilities.append(-math.log(sum(math.exp(value - peak) for value in last)))
        greedy.append(top)
        context.append(top)
        last = logits(context)[-1]
    return {
        "input_ids": ids,
        "last_logits": rows[-1],
        "argmax_per_position": best,
        "greedy": greedy,
        "greedy_logprobs": log_probabilities,
    }


def main():
    engines = {"transformers": by_transformers, "llama.cpp": by_llama_cpp}
    if len(sys.argv) != 3 or sys.argv[1] not in engines:
        sys.exit(__doc__)
    provenance, vocabulary, logits = engines[sys.argv[1]](sys.argv[2])
    cases = [case(ids, logits) for ids in sequences(vocabulary)]
    json.dump({**provenance, "tolerance_abs": TOLERANCE[sys.argv[1]], "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
