"""Fine-tuning of orion-nano on the walks of the bundled corpus: tokens a second, ours or Hugging Face transformers.

    python3 tests/bench/trainer/sft.py ours ORION_TRAIN RUN STEPS
    python3 tests/bench/trainer/sft.py transformers ORION_TRAIN RUN STEPS

RUN is a folder that keeps the walks, so that both sides read the same file. Both take steps of two batches of at most 1,700
tokens with padding, f32, AdamW, clipping at 1, loss on thoughts, queries and end markers; ours on two threads with a batch
each, the peer with two threads inside its operations, in its better attention. Tokens are counted without padding, and time
from the end of the first step, so that neither side's start counts. Prints one JSON object.
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NANO = ROOT / "host" / "policy" / "nano"
MOST_TOKENS, IN_A_BATCH, BATCHES = 1600, 1700, 2


def walks(program: str, run: pathlib.Path) -> pathlib.Path:
    made = sorted(run.glob("*bundled*.jsonl"))
    if not made:
        command = [program, "trajectories", "--set", "bundled", "--run", str(run), "--preview", "0"]
        subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)
        made = sorted(run.glob("*bundled*.jsonl"))
    return made[0]


def ours(program: str, data: pathlib.Path, run: pathlib.Path, steps: int) -> dict:
    out = run / "ours"
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "sft", "--model", str(NANO), "--data", str(data), "--config", str(HERE / "sft.toml")]
    subprocess.run([*command, "--steps", str(steps), "--out", str(out)], check=True, stdout=sys.stderr, cwd=ROOT)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    timed = [(line["tokens"], line["seconds"]) for line in lines if line.get("loss") is not None]
    (first_tokens, first), (last_tokens, last) = timed[0], timed[-1]
    return {"tokens_per_s": (last_tokens - first_tokens) / (last - first)}


def examples(data: pathlib.Path) -> list:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    words = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    marker = tokenizer.token_to_id
    found = []
    for line in data.open():
        ids, labels = [marker("<bos>")], [-100]

        def span(name, content, learn):
            ids.extend([marker(f"<{name}>"), *content, marker(f"</{name}>")])
            labels.extend([-100, *(content if learn else [-100] * len(content))])
            labels.append(marker(f"</{name}>") if learn else -100)

        for segment in json.loads(line)["segments"]:
            ((kind, content),) = segment.items()
            if kind == "user-query":
                span("user_query", words(content), False)
            elif kind == "think":
                span("think", words(content), True)
            elif kind == "search-query":
                chosen = marker(f"<{content.get('retriever') or 'hybrid'}>")
                span("search_query", [chosen, *words(content["query"])], True)
            else:
                texts = "\n".join(f"{hit['title']}: {hit['text']}" for hit in content)
                span("top_k_response", words(texts), False)
        if len(ids) <= MOST_TOKENS:
            found.append((ids, labels))
    return found


def batches(found: list):
    """Shuffled, neighbours of one length together, as many as fit with padding."""
    order = sorted(found, key=lambda example: len(example[0]))
    made, batch = [], []
    for example in order:
        if batch and len(example[0]) * (len(batch) + 1) > IN_A_BATCH:
            made.append(batch)
            batch = []
        batch.append(example)
    made.append(batch)
    while True:
        random.shuffle(made)
        yield from made


def transformers(data: pathlib.Path, steps: int, attention: str) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    torch.manual_seed(5)
    random.seed(5)
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32, attn_implementation=attention)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.02)
    source = batches(examples(data))
    tokens, began = 0, None
    for step in range(steps):
        for _ in range(BATCHES):
            batch = next(source)
            longest = max(len(ids) for ids, _ in batch)
            padded = lambda row, fill: row + [fill] * (longest - len(row))
            output = model(
                input_ids=torch.tensor([padded(ids, 0) for ids, _ in batch]),
                attention_mask=torch.tensor([padded([1] * len(ids), 0) for ids, _ in batch]),
                labels=torch.tensor([padded(labels, -100) for _, labels in batch]),
                use_cache=False,
            )
            (output.loss / BATCHES).backward()
            tokens += sum(len(ids) for ids, _ in batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step == 0:
            tokens, began = 0, time.perf_counter()
        print(f"step {step + 1}: loss {output.loss.item():.3f}", file=sys.stderr)
    return tokens / (time.perf_counter() - began)


def main() -> None:
    side, program, run, steps = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
    run.mkdir(parents=True, exist_ok=True)
    data = walks(program, run)
    if side == "ours":
        print(json.dumps(ours(program, data, run, steps)))
    else:
        print(json.dumps({"tokens_per_s": max(transformers(data, steps, way) for way in ("sdpa", "eager"))}))


if __name__ == "__main__":
    main()
