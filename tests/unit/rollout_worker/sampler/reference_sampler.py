"""Compares laws with the logits processors of transformers: reference_sampler.py CASES.json

Each case has logits, law, prompt, completion, and what the sampler found: the tokens it keeps and
the log-probabilities of those it drew. Exit status 1 names the first case that differs.
"""
import json
import sys

import torch
from transformers.generation import logits_process as hf


def processors(law, num_prompt, stops):
    if law["repetition_penalty"] != 1:
        yield hf.RepetitionPenaltyLogitsProcessor(law["repetition_penalty"])
    if law["logit_bias"]:
        yield hf.SequenceBiasLogitsProcessor([[[t], b] for t, b in law["logit_bias"]])
    if law["banned_token_ids"]:
        yield hf.SuppressTokensLogitsProcessor(law["banned_token_ids"])
    if law["min_new_tokens"] > 0:
        yield hf.MinNewTokensLengthLogitsProcessor(num_prompt, law["min_new_tokens"], stops)
    if law["temperature"] != 1:
        yield hf.TemperatureLogitsWarper(law["temperature"])
    if law["top_k"] > 0:
        yield hf.TopKLogitsWarper(law["top_k"])
    if law["top_p"] < 1:
        yield hf.TopPLogitsWarper(law["top_p"])
    if law["min_p"] > 0:
        yield hf.MinPLogitsWarper(law["min_p"])


def main():
    cases = json.load(open(sys.argv[1]))
    for number, case in enumerate(cases):
        ids = torch.tensor([case["prompt"] + case["completion"]])
        scores = torch.tensor([case["logits"]], dtype=torch.float32)
        for processor in processors(case["law"], len(case["prompt"]), case["stops"]):
            scores = processor(ids, scores)
        expected = torch.log_softmax(scores.double(), -1)[0]
        kept = [t for t in range(len(expected)) if torch.isfinite(scores[0, t])]
        if case["kept"] != kept:
            sys.exit(f"case {number}: {case['law']} kept {case['kept']}, transformers {kept}")
        for token, logprob in case["logprobs"]:
            if abs(logprob - expected[token].item()) > 2e-5:
                sys.exit(f"case {number}: {case['law']} token {token} has {logprob}, "
                         f"transformers {expected[token].item()}")
    print(f"{len(cases)} laws agree")


main()
