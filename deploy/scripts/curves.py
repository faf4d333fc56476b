#!/usr/bin/env python3
"""Runs the recipes one after the other from one warmed-up model and draws their curves.

  curves.py --bin build/release/bin [--out docs/curves] [RECIPE...]

Writes OUT/<recipe>.svg, OUT/<recipe>.jsonl (the job's metrics.jsonl) and OUT/README.md.
"""
import argparse
import json
import pathlib
import shutil
import tempfile
import time

from demo import MODEL, RECIPES, finished
from local_cluster import LocalCluster, evaluations
from svg_curve import line_chart

ON_POLICY = ('grpo', 'grpo_async', 'ppo', 'online_dpo')
ALL = ('grpo', 'grpo_async', 'ppo', 'online_dpo', 'dpo')


def smooth(points, window=5):
    out = []
    for index, (x, _) in enumerate(points):
        part = [y for _, y in points[max(0, index - window + 1):index + 1]]
        out.append((x, sum(part) / len(part)))
    return out


def draw(name, out, run_dir, accuracy):
    lines = [json.loads(line) for line in (run_dir / 'metrics.jsonl').read_text().splitlines()]
    series = [('held-out accuracy', sorted(accuracy.items()))]
    rewards = [(line['step'], line['reward_mean']) for line in lines
               if 'reward_mean' in line and 'evaluation' not in line]
    if rewards and name in ON_POLICY:
        series.append(('training reward', smooth(rewards)))
    (out / f'{name}.svg').write_text(line_chart(f'{name}: sorting six digits', 'step', series))
    shutil.copy(run_dir / 'metrics.jsonl', out / f'{name}.jsonl')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--out', default='docs/curves')
    parser.add_argument('recipes', nargs='*', default=ALL)
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix='rollcall-curves-') as folder:
        work = pathlib.Path(folder)
        cluster = LocalCluster(options.bin, work / 'state')
        cluster.run('init-model', work / 'model', *MODEL)
        with cluster:
            job = cluster.submit(RECIPES / 'sft.yaml', model__path=work / 'model',
                                 run__output_dir=work / 'runs')
            cluster.wait(job, 300)
            warm = pathlib.Path(finished(cluster, job)['run_dir']) / 'final'
            for name in options.recipes:
                started = time.monotonic()
                job = cluster.submit(RECIPES / f'{name}.yaml', model__path=warm,
                                     run__output_dir=work / 'runs')
                cluster.wait(job, 900)
                status = finished(cluster, job)
                accuracy = evaluations(status)
                draw(name, out, pathlib.Path(status['run_dir']), accuracy)
                rows.append((name, accuracy[0], accuracy[max(accuracy)], int(status['step']),
                             time.monotonic() - started))
                print(f'{name}: {rows[-1][1]:.1%} -> {rows[-1][2]:.1%} in {rows[-1][4]:.0f} s',
                      flush=True)
    text = ['# Learning curves', '',
            'Each recipe starts from the same warmed-up model (`deploy/recipes/sft.yaml`); accuracy is greedy, exact',
            'match, on 200 held-out prompts. Made by `python3 deploy/scripts/curves.py --bin build/release/bin`.', '',
            '| recipe | before | after | steps | seconds |', '|---|---|---|---|---|']
    for name, before, after, steps, seconds in rows:
        text.append(f'| `{name}` | {before:.1%} | {after:.1%} | {steps} | {seconds:.0f} |')
    for name, *_ in rows:
        text += ['', f'![{name}]({name}.svg)']
    (out / 'README.md').write_text('\n'.join(text) + '\n')


if __name__ == '__main__':
    main()
