"""Writes adamw.json beside it: five updates of torch.optim.AdamW in float32."""
import json
import pathlib

import torch

torch.manual_seed(20261124)
OPTIONS = {'learning_rate': 1e-2, 'beta1': 0.9, 'beta2': 0.95, 'epsilon': 1e-8, 'weight_decay': 0.1}
start = torch.randn(7)
gradients = torch.randn(5, 7) * torch.tensor([1e-3, 1e-2, 0.1, 1.0, 10.0])[:, None]
parameter = torch.nn.Parameter(start.clone())
optimizer = torch.optim.AdamW([parameter], lr=OPTIONS['learning_rate'],
                              betas=(OPTIONS['beta1'], OPTIONS['beta2']), eps=OPTIONS['epsilon'],
                              weight_decay=OPTIONS['weight_decay'], foreach=False)
after = []
for gradient in gradients:
    parameter.grad = gradient.clone()
    optimizer.step()
    after.append(parameter.detach().tolist())
state = optimizer.state[parameter]
pathlib.Path(__file__).with_suffix('.json').write_text(json.dumps({
    'origin': f'torch.optim.AdamW of torch {torch.__version__}, float32; written by adamw.py',
    'options': OPTIONS, 'start': start.tolist(), 'gradients': gradients.tolist(), 'after': after,
    'first_moment': state['exp_avg'].tolist(), 'second_moment': state['exp_avg_sq'].tolist(),
}, indent=1) + '\n')
