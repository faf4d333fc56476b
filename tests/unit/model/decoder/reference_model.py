"""Random small models of every architecture, their logits and their gradients, by transformers.

    reference_model.py make DIR         makes one model directory per case below DIR
    reference_model.py answer DIR...    reads the model in each DIR

Both leave expected.safetensors in each model's directory. For the sequences tokens.N of
tokens.safetensors it holds, computed in float32,
    logits.N   of the sequence alone
    padded.N   of the sequence in a batch that is padded on the left
    steps.N    of the first half in one call and then token by token, with a cache
and the loss and its gradients grad.NAME with the weights in float64: of a language model the mean
next-token loss over all sequences, of a score head the mean square of the scores.
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
BASE = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            initializer_range=0.2, **TOKENS)
NEOX = {key: value for key, value in BASE.items() if key != 'num_key_value_heads'}
GPT2 = dict(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2,
            **TOKENS)
GEMMA = dict(BASE, num_hidden_layers=4, head_dim=8, query_pre_attn_scalar=12, sliding_window=7)
YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=16)
WIDE = dict(head_dim=32, num_hidden_layers=1)  # many frequencies


def rope(rope_type='default', theta=10000.0, **settings):
    return {'rope_parameters': dict(rope_type=rope_type, rope_theta=theta, **settings)}


def longrope(head_dim):
    return dict(original_max_position_embeddings=64, max_position_embeddings=256, rope_scaling=dict(
        type='longrope', short_factor=[1.0 + 0.25 * i for i in range(head_dim // 2)],
        long_factor=[2.0 + i for i in range(head_dim // 2)]))


LLAMA, MISTRAL, PHI3 = 'LlamaForCausalLM', 'MistralForCausalLM', 'Phi3ForCausalLM'
QWEN2, QWEN3, OLMO2 = 'Qwen2ForCausalLM', 'Qwen3ForCausalLM', 'Olmo2ForCausalLM'
GEMMA2, GEMMA3 = 'Gemma2ForCausalLM', 'Gemma3ForCausalLM'
GPT, GPT_NEOX = 'GPT2LMHeadModel', 'GPTNeoXForCausalLM'
CASES = {
    'llama_gqa': (LLAMA, {}),
    'llama_gqa_again': (LLAMA, {}),
    'llama_mha_tied': (LLAMA, dict(num_key_value_heads=4, tie_word_embeddings=True,
                                   num_hidden_layers=3)),
    'llama_mqa_wide_heads': (LLAMA, dict(hidden_size=24, num_attention_heads=6, head_dim=16,
                                         num_key_value_heads=1, **rope(theta=500.0))),
    'llama_odd_widths': (LLAMA, dict(vocab_size=103, hidden_size=30, intermediate_size=37,
                                     num_attention_heads=3, num_key_value_heads=3,
                                     rms_norm_eps=1e-2, **rope(theta=1e6))),
    'llama_narrow_heads_tied': (LLAMA, dict(num_attention_heads=8, num_key_value_heads=4,
                                            head_dim=2, tie_word_embeddings=True,
                                            num_hidden_layers=1)),
    'bfloat16_shards': (LLAMA, dict(eos_token_id=[2, 3])),
    'half': (LLAMA, dict(tie_word_embeddings=True)),
    'llama_biases': (LLAMA, dict(attention_bias=True, mlp_bias=True)),
    'llama_gelu': (LLAMA, dict(hidden_act='gelu')),
    'llama_relu': (LLAMA, dict(hidden_act='relu')),
    'rope_linear': (LLAMA, dict(WIDE, **rope('linear', factor=2.5))),
    'rope_dynamic': (LLAMA, dict(WIDE, **rope('dynamic', factor=4.0))),
    'rope_llama3': (LLAMA, dict(WIDE, **rope('llama3', factor=8.0, low_freq_factor=1.0,
                                             high_freq_factor=4.0, theta=500.0,
                                             original_max_position_embeddings=32))),
    'rope_yarn': (LLAMA, dict(WIDE, **rope(theta=500.0, **YARN))),
    'rope_yarn_attention': (LLAMA, dict(WIDE, **rope(attention_factor=1.3, beta_fast=8.0,
                                                     beta_slow=0.5, **YARN))),
    'rope_yarn_mscale': (LLAMA, dict(WIDE, **rope(mscale=1.5, mscale_all_dim=0.7, **YARN))),
    'rope_yarn_fractions': (LLAMA, dict(WIDE, **rope(truncate=False, theta=500.0, **YARN))),
    'mistral': (MISTRAL, dict(sliding_window=8)),
    'mistral_again': (MISTRAL, dict(sliding_window=16)),
    'mistral_all': (MISTRAL, dict(sliding_window=None)),
    'mistral_narrow': (MISTRAL, dict(sliding_window=2, num_key_value_heads=1)),
    'qwen2': (QWEN2, {}),
    'qwen2_again': (QWEN2, dict(tie_word_embeddings=True)),
    'qwen2_slides': (QWEN2, dict(use_sliding_window=True, sliding_window=9, max_window_layers=1,
                                 num_hidden_layers=3)),
    'qwen2_types': (QWEN2, dict(use_sliding_window=True, sliding_window=5, layer_types=[
        'sliding_attention', 'full_attention'])),
    'qwen2_yarn': (QWEN2, dict(rope_scaling=dict(type='yarn', factor=4.0,
                                                 original_max_position_embeddings=16),
                               rope_theta=1e6)),
    'qwen3': (QWEN3, dict(head_dim=16)),
    'qwen3_again': (QWEN3, dict(head_dim=6, tie_word_embeddings=True)),
    'qwen3_biases': (QWEN3, dict(head_dim=8, attention_bias=True, use_sliding_window=True,
                                 sliding_window=4, max_window_layers=0)),
    'gemma2': (GEMMA2, dict(attn_logit_softcapping=2.0, final_logit_softcapping=4.0)),
    'gemma2_again': (GEMMA2, dict(hidden_size=24, head_dim=10)),
    'gemma2_plain': (GEMMA2, dict(attn_logit_softcapping=None, final_logit_softcapping=None,
                                  attention_bias=True, tie_word_embeddings=False)),
    'gemma3': (GEMMA3, dict(num_hidden_layers=7)),
    'gemma3_again': (GEMMA3, dict(sliding_window_pattern=2, final_logit_softcapping=3.0)),
    'gemma3_scaled': (GEMMA3, dict(layer_types=['full_attention', 'sliding_attention'] * 2,
                                   head_dim=12, rope_parameters=dict(
                                       full_attention=dict(rope_type='linear', factor=8.0,
                                                           rope_theta=1e4),
                                       sliding_attention=dict(rope_type='default',
                                                              rope_theta=100.0)))),
    'phi3': (PHI3, {}),
    'phi3_again': (PHI3, dict(sliding_window=11, num_key_value_heads=1)),
    'phi3_partial': (PHI3, dict(hidden_size=64, partial_rotary_factor=0.75, tie_word_embeddings=True)),
    'phi3_longrope': (PHI3, longrope(8)),
    'olmo2': (OLMO2, {}),
    'olmo2_again': (OLMO2, dict(num_key_value_heads=4, tie_word_embeddings=True)),
    'olmo2_biases': (OLMO2, dict(attention_bias=True)),
    'gpt2': (GPT, {}),
    'gpt2_again': (GPT, dict(n_inner=40, n_head=2)),
    'gpt2_scales': (GPT, dict(scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False,
                              n_layer=3, activation_function='relu')),
    'gpt2_untied': (GPT, dict(tie_word_embeddings=False, activation_function='gelu')),
    'gpt_neox': (GPT_NEOX, {}),
    'gpt_neox_again': (GPT_NEOX, dict(use_parallel_residual=False)),
    'gpt_neox_turns': (GPT_NEOX, dict(rotary_pct=1.0, attention_bias=False, tie_word_embeddings=True)),
    'gpt_neox_linear': (GPT_NEOX, rope('linear', factor=3.0, partial_rotary_factor=0.5)),
    'score_llama': ('LlamaForSequenceClassification', dict(num_labels=1)),
    'score_qwen2': ('Qwen2ForSequenceClassification', dict(num_labels=1)),
    'score_gemma3': ('Gemma3TextForSequenceClassification', dict(num_labels=1)),
    'score_gpt2': ('GPT2ForSequenceClassification', dict(num_labels=3)),
    'score_gpt_neox': ('GPTNeoXForSequenceClassification', dict(num_labels=1)),
    'score_phi3': ('Phi3ForSequenceClassification', dict(num_labels=2)),
    'tokens_llama': ('LlamaForTokenClassification', dict(num_labels=1)),
    'tokens_plain': ('LlamaForTokenClassification', dict(num_labels=4,
                                                         token_classification_bias=False)),
    'tokens_gpt2': ('GPT2ForTokenClassification', dict(num_labels=2)),
    'tokens_gpt_neox': ('GPTNeoXForTokenClassification', dict(num_labels=1)),
    'tokens_gemma2': ('Gemma2ForTokenClassification', dict(num_labels=1)),
}
SHARD_SIZE = {'bfloat16_shards': '8KB'}
DTYPE = {'bfloat16_shards': torch.bfloat16, 'half': torch.float16}


def base_settings(name):
    if name.startswith('GPT2'):
        return GPT2
    if name.startswith('GPTNeoX'):
        return NEOX
    return GEMMA if name.startswith('Gemma') else BASE


def make(name, directory):
    class_name, overrides = CASES[name]
    model_class = getattr(transformers, class_name)
    config = model_class.config_class(**dict(base_settings(class_name), **overrides))
    model = model_class(config)
    is_from_one = class_name.startswith('Gemma')
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() > 1:
                continue
            if key.endswith('bias'):
                parameter.normal_(0, 0.3)
            else:
                parameter.uniform_(-0.5, 0.5).add_(0 if is_from_one else 1)
    model.to(DTYPE.get(name, torch.float32))
    model.save_pretrained(directory, max_shard_size=SHARD_SIZE.get(name, '1GB'))
    tokens = {f'tokens.{i}': torch.randint(config.vocab_size, (length,), dtype=torch.int32)
              for i, length in enumerate([1, 17, 40, 64])}
    save_file(tokens, os.path.join(directory, 'tokens.safetensors'))


def load(directory, dtype):
    with open(os.path.join(directory, 'config.json')) as file:
        config = json.load(file)
    model_class = getattr(transformers, config['architectures'][0])
    if model_class.config_class.model_type != config['model_type']:
        raise ValueError(f'{directory}: {config["architectures"]} is no {config["model_type"]}')
    model, info = model_class.from_pretrained(
        directory, dtype=dtype, attn_implementation='eager', output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        raise ValueError(f'{directory}: {wrong}')
    output = model.get_output_embeddings()
    tied = output is not None and output.weight is model.get_input_embeddings().weight
    if output is not None and tied != model.config.tie_word_embeddings:
        raise ValueError(f'{directory}: the output projection is not tied as the config says')
    return model.eval()


def padded_logits(model, sequences):
    """One batch, padded on the left with token 0."""
    longest = max(ids.shape[1] for ids in sequences.values())
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences.values()):
        ids[row, longest - sequence.shape[1]:] = sequence[0]
        mask[row, longest - sequence.shape[1]:] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=mask, position_ids=positions).logits
    return {key: logits[row, longest - sequence.shape[1]:]
            for row, (key, sequence) in enumerate(sequences.items())}


def stepped_logits(model, ids):
    """The first half at once, the rest token by token with a cache."""
    first = (ids.shape[1] + 1) // 2
    cache = transformers.DynamicCache(config=model.config)
    parts = [model(ids[:, :first], cache=cache, use_cache=True).logits[0]]
    for t in range(first, ids.shape[1]):
        step = model(ids[:, t:t + 1], cache=cache, use_cache=True,
                     position_ids=torch.tensor([[t]]))
        parts.append(step.logits[0])
    return torch.cat(parts)


def answer(directory):
    tokens = load_file(os.path.join(directory, 'tokens.safetensors'))
    sequences = {key.split('.')[1]: value.long()[None] for key, value in tokens.items()}
    expected = {}
    model = load(directory, torch.float32)
    scores = model.get_output_embeddings() is None
    with torch.no_grad():
        for key, ids in sequences.items():
            expected[f'logits.{key}'] = model(ids).logits[0].clone()
            if not scores:
                expected[f'steps.{key}'] = stepped_logits(model, ids)
        if not scores:
            for key, logits in padded_logits(model, sequences).items():
                expected[f'padded.{key}'] = logits.clone()
    model = load(directory, torch.float64)
    if scores:
        loss = torch.cat([model(ids).logits.reshape(-1) for ids in sequences.values()])
        loss = loss.square().mean()
    else:
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
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if sys.argv[1] == 'make':
        directories = []
        for seed, name in enumerate(CASES):
            torch.manual_seed(seed)
            directories.append(os.path.join(sys.argv[2], name))
            make(name, directories[-1])
    else:
        directories = sys.argv[2:]
    for directory in directories:
        try:
            answer(directory)
        except Exception as error:
            raise RuntimeError(directory) from error


main()
