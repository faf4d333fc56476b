"""The models and the work of `./dev bench rollout`: random Llama weights, made once and used by everybody.

ModelDir is a directory as transformers and rollcall read it, with the same weights beside it as GGUF."""
import json
import pathlib
import random
import subprocess

import gguf
import numpy as np
from safetensors.numpy import load_file

from bench_shapes import SHAPES

MAX_POSITIONS = 16384
# Llama's names in GGUF; q and k are permuted, since there the halves of a rotated pair lie side by side.
GGUF_LAYER = {
    'input_layernorm': 'attn_norm', 'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output', 'post_attention_layernorm': 'ffn_norm',
    'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
}


def interleave_halves(weight, num_heads):
    """[H * D, E] with the pair (i, i + D/2) of a head -> the pair (2i, 2i + 1)."""
    depth = weight.shape[1]
    return weight.reshape(num_heads, 2, -1, depth).swapaxes(1, 2).reshape(weight.shape)


def gguf_name(name):
    if name == 'model.embed_tokens.weight':
        return 'token_embd.weight'
    if name == 'model.norm.weight':
        return 'output_norm.weight'
    if name == 'lm_head.weight':
        return 'output.weight'
    layer, rest = name.removeprefix('model.layers.').split('.', 1)
    return f'blk.{layer}.{GGUF_LAYER[rest.removesuffix(".weight")]}.weight'


def write_gguf(directory, path, precision):
    """The weights of a Llama directory for llama.cpp, without a tokenizer. Vectors stay float32."""
    config = json.loads((directory / 'config.json').read_text(encoding='utf-8'))
    heads, kv_heads = config['num_attention_heads'], config['num_key_value_heads']
    partial = path.with_suffix('.partial')
    writer = gguf.GGUFWriter(partial, 'llama')
    writer.add_context_length(config['max_position_embeddings'])
    writer.add_embedding_length(config['hidden_size'])
    writer.add_block_count(config['num_hidden_layers'])
    writer.add_feed_forward_length(config['intermediate_size'])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
    writer.add_rope_dimension_count(config['hidden_size'] // heads)
    writer.add_rope_freq_base(float((config.get('rope_parameters') or config)['rope_theta']))
    writer.add_vocab_size(config['vocab_size'])
    writer.add_tokenizer_model('none')
    for name, weight in sorted(load_file(directory / 'model.safetensors').items()):
        if 'q_proj' in name or 'k_proj' in name:
            weight = interleave_halves(weight, heads if 'q_proj' in name else kv_heads)
        if precision == 'bf16' and weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(np.ascontiguousarray(weight), kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


class Model:
    """One of SHAPES in a cache directory, made when it is not there."""

    def __init__(self, size, cache, bin_dir):
        shape = [f'--{key}={value}' for key, value in SHAPES[size].items()]
        self.size = size
        self.path = pathlib.Path(cache) / f'{size}-{"-".join(str(value) for value in SHAPES[size].values())}'
        if not (self.path / 'config.json').exists():
            subprocess.run([f'{bin_dir}/rollcall', 'init-model', self.path, *shape, '--tie', '--force', '--seed=1',
                            f'--max-positions={MAX_POSITIONS}'], check=True, stdout=subprocess.DEVNULL)
        for precision in ('fp32', 'bf16'):
            if not self.gguf(precision).exists():
                write_gguf(self.path, self.gguf(precision), precision)
        self.config = json.loads((self.path / 'config.json').read_text(encoding='utf-8'))
        self.vocab_size = self.config['vocab_size']

    def gguf(self, precision):
        return self.path.with_name(f'{self.path.name}-{precision}.gguf')

    @property
    def matrix_weights(self):
        """Weights that every token is multiplied with: the embedding counts as the output's matrix."""
        c = self.config
        kv_size = c['hidden_size'] // c['num_attention_heads'] * c['num_key_value_heads']
        layer = 2 * c['hidden_size'] * (c['hidden_size'] + kv_size) + 3 * c['hidden_size'] * c['intermediate_size']
        return c['num_hidden_layers'] * layer + c['hidden_size'] * c['vocab_size']

    @property
    def attention_products_per_key(self):
        """Multiplications of a token with one key and its value, all layers and query heads together."""
        return 2 * self.config['num_hidden_layers'] * self.config['hidden_size']

    @property
    def kv_values_per_token(self):
        c = self.config
        return 2 * c['num_hidden_layers'] * c['num_key_value_heads'] * (c['hidden_size'] // c['num_attention_heads'])


def make_work(vocab_size, num_prompts, prompt_tokens, new_tokens, seed=1):
    """[(new tokens, prompt)] with lengths drawn evenly from the two inclusive ranges."""
    rng = random.Random(seed)
    return [(rng.randint(*new_tokens), [rng.randrange(vocab_size) for _ in range(rng.randint(*prompt_tokens))])
            for _ in range(num_prompts)]


def write_work(work, path):
    """One line per prompt: how many tokens to sample, then the prompt's tokens."""
    path.write_text(''.join(f'{count} {" ".join(map(str, prompt))}\n' for count, prompt in work), encoding='utf-8')
