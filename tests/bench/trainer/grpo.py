"""Reinforcing orion-nano: candidates a second, ours or TRL's GRPOTrainer on Hugging Face transformers.

    python3 tests/bench/trainer/grpo.py ours ORION_TRAIN RUN STEPS
    python3 tests/bench/trainer/grpo.py trl ORION_TRAIN RUN STEPS

Both take steps over four questions of the bundled corpus in groups of four, at most 80 tokens a candidate, temperature 1,
f32, a reference policy (beta 0.04) and AdamW. Ours plays whole episodes of up to four turns: every candidate is searched for
in the real index and scored by the reward plugin. TRL has no such episodes, so it plays single turns after the first
results, read from the walks that `sft.py` makes, and gets a reward that costs nothing: the share of a candidate's words that
stand in the question. So the comparison flatters the peer. Time counts from the end of the first step. Prints one JSON object.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time

from sft import NANO, ROOT, walks

QUESTIONS, GROUP, MOST_TOKENS = 4, 4, 80


def ours(program: str, run: pathlib.Path, steps: int) -> dict:
    out = run / "grpo"
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "grpo", "--model", str(NANO), "--set", "bundled", "--config", "trainer/grpo.toml"]
    command += ["--steps", str(steps), "--queries", str(QUESTIONS), "--group", str(GROUP), "--eval-queries", "1"]
    subprocess.run([*command, "--out", str(out)], check=True, stdout=sys.stderr, cwd=ROOT)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    timed = [(line["candidates"], line["seconds"]) for line in lines if "candidates" in line]
    candidates = sum(count for count, _ in timed[1:])
    return {"candidates_per_s": candidates / (timed[-1][1] - timed[0][1])}


def prompts(data: pathlib.Path) -> list[str]:
    found = []
    for line in data.open():
        parts = {}
        for segment in json.loads(line)["segments"]:
            for kind, content in segment.items():
                parts.setdefault(kind, content)
        texts = "\n".join(f"{hit['title']}: {hit['text']}" for hit in parts["top-k-response"])
        query = parts["search-query"]
        found.append(
            f"<bos><user_query>{parts['user-query']}</user_query><think>{parts['think']}</think>"
            f"<search_query><{query.get('retriever') or 'hybrid'}>{query['query']}</search_query>"
            f"<top_k_response>{texts}</top_k_response><think>"
        )
    return found


def trl(data: pathlib.Path, steps: int) -> dict:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(2)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(NANO / "tokenizer.json"), pad_token="<pad>", eos_token="</search_query>"
    )
    tokenizer.padding_side = "left"
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    def overlap(prompts, completions, **_):
        share = lambda asked, said: len(asked & said) / max(1, len(said))
        return [share(set(asked.split()), set(said.split())) for asked, said in zip(prompts, completions)]

    settings = GRPOConfig(
        output_dir=str(data.parent / "trl"), use_cpu=True, bf16=False, max_steps=steps, learning_rate=3e-5, beta=0.04,
        per_device_train_batch_size=QUESTIONS * GROUP, num_generations=GROUP, max_completion_length=MOST_TOKENS,
        temperature=1.0, report_to=[], save_strategy="no", logging_steps=1, gradient_checkpointing=False,
    )
    trainer = GRPOTrainer(
        model=model, reward_funcs=overlap, args=settings, processing_class=tokenizer, callbacks=[Clock()],
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts(data)]),
    )
    trainer.train()
    return {"candidates_per_s": QUESTIONS * GROUP * (len(ends) - 1) / (ends[-1] - ends[0])}


def main() -> None:
    side, program, run, steps = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
    run.mkdir(parents=True, exist_ok=True)
    print(json.dumps(ours(program, run, steps) if side == "ours" else trl(walks(program, run), steps)))


if __name__ == "__main__":
    main()
