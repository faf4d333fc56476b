"""PEFT's side of the adapter test: `make DIR` writes bases, adapters and what they give; `check DIR`
loads what the other side wrote and compares logits."""
import json
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, Phi3Config,
                          Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM)

SIZES = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, max_position_embeddings=64, pad_token_id=0,
             bos_token_id=1, eos_token_id=2)
CASES = {
    'llama': (LlamaForCausalLM, LlamaConfig(**SIZES, num_key_value_heads=2),
              dict(r=4, lora_alpha=8, target_modules=['q_proj', 'v_proj', 'down_proj'])),
    'qwen2': (Qwen2ForCausalLM, Qwen2Config(**SIZES, num_key_value_heads=2),
              dict(r=4, lora_alpha=8, use_rslora=True, target_modules='all-linear')),
    'patterns': (LlamaForCausalLM, LlamaConfig(**SIZES, num_key_value_heads=2),
                 dict(r=4, lora_alpha=8, target_modules=['q_proj', 'k_proj', 'lm_head'],
                      rank_pattern={'k_proj': 2}, alpha_pattern={'k_proj': 3})),
    'phi3': (Phi3ForCausalLM, Phi3Config(**SIZES, num_key_value_heads=2),
             dict(r=3, lora_alpha=6, target_modules=['qkv_proj', 'gate_up_proj'])),
    'gpt2': (GPT2LMHeadModel, GPT2Config(vocab_size=61, n_embd=32, n_inner=48, n_layer=2, n_head=4,
                                         n_positions=64, bos_token_id=1, eos_token_id=2),
             dict(r=3, lora_alpha=6, fan_in_fan_out=True, target_modules=['c_attn', 'c_proj', 'c_fc'])),
    'gpt_neox': (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES),
                 dict(r=3, lora_alpha=6, target_modules=['query_key_value', 'dense'])),
}


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens[None]).logits[0].float().contiguous()


def gradients(model, tokens):
    """Of the mean negative log-likelihood of the next tokens, by the name that the file has."""
    model.zero_grad()
    logprobs = model(tokens[None]).logits[0].float().log_softmax(-1)
    (-logprobs[:-1].gather(1, tokens[1:, None]).mean()).backward()
    return {'grad.' + name.replace('.default', ''): parameter.grad.contiguous()
            for name, parameter in model.named_parameters() if parameter.requires_grad}


def make(work):
    for index, (name, (architecture, config, lora)) in enumerate(CASES.items()):
        torch.manual_seed(index)
        base = architecture(config).eval()
        folder = work / name
        base.save_pretrained(folder / 'base')
        model = get_peft_model(base, LoraConfig(task_type='CAUSAL_LM', **lora)).eval()
        for parameter_name, parameter in model.named_parameters():
            if 'lora_B' in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder / 'adapter')
        tokens = torch.randint(1, 61, (17,))
        save_file({'tokens': tokens.to(torch.int32), 'logits': logits(model, tokens),
                   **gradients(model, tokens)}, str(folder / 'expected.safetensors'))


def check(work):
    worst = {}
    for name in CASES:
        folder = work / name
        base = AutoModelForCausalLM.from_pretrained(folder / 'base', dtype=torch.float32)
        model = PeftModel.from_pretrained(base, folder / 'written').eval()
        expected = load_file(str(folder / 'written.safetensors'))
        got = logits(model, expected['tokens'].long())
        worst[name] = (got - expected['logits']).abs().max().item()
    print(json.dumps(worst))
    if max(worst.values()) > 1e-4:
        sys.exit(f'logits differ: {worst}')


if __name__ == '__main__':
    {'make': make, 'check': check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
