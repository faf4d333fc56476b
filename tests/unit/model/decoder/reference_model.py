"""Random small Llama models, their logits and their gradients, by transformers.

    reference_model.py make DIR         makes one model directory per case below DIR
    reference_model.py answer DIR...    reads the model in each DIR

Both leave expected.safetensors in each model's directory: logits.N of the sequences tokens.N of
tokens.safetensors (float32 throughout), and loss and grad.NAME of the mean next-token loss over all
of them (weights in float64).
"""
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

BASE = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            initializer_range=0.2, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
CASES = {
    'gqa': {},
    'gqa_again': {},
    'mha_tied': dict(num_key_value_heads=4, tie_word_embeddings=True, num_hidden_layers=3),
    'mqa_wide_heads': dict(hidden_size=24, num_attention_heads=6, num_key_value_heads=1,
                           head_dim=16, rope_theta=500.0),
    'odd_widths': dict(vocab_size=103, hidden_size=30, intermediate_size=37, num_attention_heads=3,
                       num_key_value_heads=3, rope_theta=1e6, rms_norm_eps=1e-2),
    'narrow_heads_tied': dict(num_attention_heads=8, num_key_value_heads=4, head_dim=2,
                              tie_word_embeddings=True, num_hidden_layers=1),
    'bfloat16_shards': dict(eos_token_id=[2, 3]),
    'half': dict(tie_word_embeddings=True),
}
SHARD_SIZE = {'bfloat16_shards': '8KB'}
DTYPE = {'bfloat16_shards': torch.bfloat16, 'half': torch.float16}


def make(name, directory):
    settings = dict(BASE, **CASES[name])
    theta = settings.pop('rope_theta', 10000.0)
    settings['rope_parameters'] = {'rope_type': 'default', 'rope_theta': theta}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if 'norm' in key:
                parameter.uniform_(0.5, 1.5)
    model.to(DTYPE.get(name, torch.float32))
    model.save_pretrained(directory, max_shard_size=SHARD_SIZE.get(name, '1GB'))
    tokens = {f'tokens.{i}': torch.randint(settings['vocab_size'], (length,), dtype=torch.int32)
              for i, length in enumerate([1, 17, 40, 64])}
    save_file(tokens, os.path.join(directory, 'tokens.safetensors'))


def load(directory, dtype):
    model, info = LlamaForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation='eager', output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        raise ValueError(f'{directory}: {wrong}')
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    if tied != model.config.tie_word_embeddings:
        raise ValueError(f'{directory}: the output projection is not tied as the config says')
    return model.eval()


def answer(directory):
    tokens = load_file(os.path.join(directory, 'tokens.safetensors'))
    sequences = {key.split('.')[1]: value.long()[None] for key, value in tokens.items()}
    expected = {}
    model = load(directory, torch.float32)
    with torch.no_grad():
        for key, ids in sequences.items():
            expected[f'logits.{key}'] = model(ids).logits[0]
    model = load(directory, torch.float64)
    losses = [torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:],
                                                reduction='none')
              for ids in sequences.values() if ids.shape[1] > 1]
    loss = torch.cat(losses).mean()
    loss.backward()
    expected['loss'] = loss.detach().float()
    for key, parameter in model.named_parameters():
        expected[f'grad.{key}'] = parameter.grad.float()
    save_file({key: value.contiguous() for key, value in expected.items()},
              os.path.join(directory, 'expected.safetensors'))


def main():
    torch.set_num_threads(1)
    if sys.argv[1] == 'make':
        directories = []
        for seed, name in enumerate(CASES):
            torch.manual_seed(seed)
            directories.append(os.path.join(sys.argv[2], name))
            make(name, directories[-1])
    else:
        directories = sys.argv[2:]
    for directory in directories:
        answer(directory)


main()
