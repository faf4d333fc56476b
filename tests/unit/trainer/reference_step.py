"""One training step by transformers and torch autograd, in float64.

Reads a request from the file named on the command line and prints {"loss", "gradients"}: the loss of
the first step and its gradient with respect to every parameter.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM


def load(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64)
    return model.eval()


def logprobs(model, sequence, temperature):
    """Log-probabilities of the trained tokens of one sequence, alone in its batch."""
    tokens = torch.tensor([sequence['tokens']])
    logits = model(tokens).logits[0, :-1] / temperature
    chosen = torch.log_softmax(logits, -1).gather(-1, tokens[0, 1:, None])[:, 0]
    return chosen[torch.tensor(sequence['trains'][1:], dtype=torch.bool)]


def grpo(policy, reference, request):
    options = request['options']
    total = 0.0
    counted = 0
    for group in request['groups']:
        rewards = torch.tensor([s['reward'] for s in group], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for sequence, advantage in zip(group, advantages):
            if not any(sequence['trains'][1:]):
                continue
            counted += 1
            new = logprobs(policy, sequence, options['temperature'])
            old = new.detach()
            with torch.no_grad():
                ref = logprobs(reference, sequence, options['temperature'])
            behavior = torch.tensor([b for b, m in zip(sequence['behavior'], sequence['trains'])
                                     if m], dtype=torch.float64)
            weight = torch.exp(old - behavior).clamp(max=options['cap'])
            ratio = torch.exp(new - old)
            clipped = ratio.clamp(1 - options['clip'], 1 + options['clip'])
            surrogate = -torch.minimum(ratio * advantage, clipped * advantage)
            kl = torch.exp(ref - new) - (ref - new) - 1
            total = total + (weight * surrogate + options['kl'] * kl).mean()
    return total / counted


def dpo(policy, reference, request):
    options = request['options']
    losses = []
    for chosen, rejected in request['groups']:
        with torch.no_grad():
            base = (logprobs(reference, chosen, 1.0).sum()
                    - logprobs(reference, rejected, 1.0).sum())
        margin = logprobs(policy, chosen, 1.0).sum() - logprobs(policy, rejected, 1.0).sum() - base
        losses.append(-torch.nn.functional.logsigmoid(options['beta'] * margin))
    return torch.stack(losses).mean()


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        requests = json.load(file)
    answers = []
    for request in requests:
        policy = load(request['policy'])
        loss = {'grpo': grpo, 'dpo': dpo}[request['method']](policy, load(request['reference']),
                                                             request)
        loss.backward()
        gradients = {name: parameter.grad.flatten().tolist()
                     for name, parameter in policy.named_parameters()}
        answers.append({'loss': loss.item(), 'gradients': gradients})
    json.dump(answers, sys.stdout)


main()
