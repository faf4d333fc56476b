"""Makes a small random model and what transformers generates with it: reference_generate.py DIR

DIR gets the model and expected.json: greedy and beam-search sequences of several prompts.
"""
import json
import pathlib
import random
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SETTINGS = [
    {"num_beams": 1, "length_penalty": 1.0, "early_stopping": False},
    {"num_beams": 3, "length_penalty": 1.0, "early_stopping": False},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": 0.7, "early_stopping": "never"},
    {"num_beams": 2, "length_penalty": -1.0, "early_stopping": False},
]


def main():
    directory = pathlib.Path(sys.argv[1])
    torch.manual_seed(5)
    random.seed(5)
    config = LlamaConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                         initializer_range=0.35, tie_word_embeddings=False, eos_token_id=[0, 7],
                         bos_token_id=1, pad_token_id=0)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(directory)
    cases = []
    for number in range(6):
        prompt = [random.randrange(1, 61) for _ in range(random.randrange(1, 20))]
        with torch.no_grad():
            table = torch.log_softmax(model(torch.tensor([prompt])).logits[0].double(), -1)
        of_prompt = [table[i, token].item() for i, token in enumerate(prompt[1:])]
        for setting in SETTINGS:
            beams = setting["num_beams"]
            out = model.generate(torch.tensor([prompt]), max_new_tokens=12 + number, do_sample=False,
                                 num_return_sequences=beams, output_scores=beams > 1,
                                 return_dict_in_generate=True, top_k=None, top_p=None,
                                 temperature=None, eos_token_id=[0, 7], pad_token_id=0, **setting)
            sequences = []
            for row in out.sequences.tolist():
                tokens = row[len(prompt):]
                # What follows the first stop token is padding.
                ends = [i for i, token in enumerate(tokens) if token in (0, 7)]
                sequences.append(tokens[:ends[0] + 1] if ends else tokens)
            scores = out.sequences_scores.tolist() if beams > 1 else []
            cases.append({"prompt": prompt, "prompt_logprobs": of_prompt, "max_new_tokens": 12 + number, **setting,
                          "early_stopping": str(setting["early_stopping"]).lower(),
                          "sequences": sequences, "scores": scores})
    json.dump(cases, open(directory / "expected.json", "w"))


main()
