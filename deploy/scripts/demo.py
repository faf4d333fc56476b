#!/usr/bin/env python3
"""./dev demo: a tiny policy learns to sort digits, on one machine, in a few minutes."""
import argparse
import json
import pathlib
import subprocess
import sys
import time

from local_cluster import CommandError, LocalCluster, evaluations

RECIPES = pathlib.Path(__file__).resolve().parent.parent / 'recipes'
MODEL = ['--hidden-size', '128', '--layers', '2', '--heads', '4', '--kv-heads', '2',
         '--intermediate-size', '384', '--max-positions', '64', '--tie', '--seed', '1']


def say(text):
    print(f'\033[1m==>\033[0m {text}' if sys.stdout.isatty() else f'==> {text}', flush=True)


def watch(cluster, job_id):
    """Runs `rollcall watch` in the foreground, so that the user sees what users see."""
    subprocess.run([str(cluster.bin_dir / 'rollcall'), '--state-dir', str(cluster.state_dir),
                    'watch', job_id], check=False, timeout=900)


def finished(cluster, job_id):
    status = cluster.wait(job_id, timeout=60)
    if status['state'] != 'JOB_STATE_SUCCEEDED':
        raise SystemExit(f'error: job {job_id} ended as {status["state"]}: '
                         f'{status.get("state_reason", "")}')
    return status


def samples_of(cluster, job_id, version):
    """Evaluation samples by prompt."""
    views = cluster.json('inspect', job_id, '--evaluated-version', version, '--limit', 8)['samples']
    return {view['prompt_text']: view for view in views}


def side_by_side(before, after):
    print(f'\n  {"prompt":<18}{"before":<22}{"after":<22}')
    for prompt in sorted(set(before) & set(after)):
        cells = []
        for view in (before[prompt], after[prompt]):
            mark = 'ok' if view.get('reward', 0) >= 1 else '--'
            cells.append(f'{view.get("completion_text", "")[:16]:<17}{mark}')
        print(f'  {prompt:<18}{cells[0]:<22}{cells[1]:<22}')
    print()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--recipes', default=str(RECIPES))
    parser.add_argument('--json')
    parser.add_argument('--dir')
    options = parser.parse_args()
    recipes = pathlib.Path(options.recipes)
    work = pathlib.Path(options.dir or f'runs/demo-{time.strftime("%Y%m%d-%H%M%S")}').resolve()
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    model = work / 'model'
    cluster = LocalCluster(options.bin, work / 'state')
    say(f'Making a tiny Llama model in {model}')
    print(cluster.run('init-model', model, *MODEL).strip())
    say('Starting a local cluster: coordinator, 2 rollout workers, reward server, 2 learner ranks')
    with cluster:
        say('Warming the model up with a short supervised job')
        warm_up = cluster.submit(recipes / 'sft.yaml', model__path=model,
                                 run__output_dir=work / 'runs')
        watch(cluster, warm_up)
        warm = finished(cluster, warm_up)

        say('Training it by GRPO: reward 1 for the exact answer, 0 otherwise')
        job = cluster.submit(recipes / 'grpo.yaml',
                             model__path=pathlib.Path(warm['run_dir']) / 'final',
                             run__output_dir=work / 'runs')
        watch(cluster, job)
        status = finished(cluster, job)
        accuracy = evaluations(status)
        last = int(status['policy_version'])
        side_by_side(samples_of(cluster, job, 0), samples_of(cluster, job, last))
    seconds = time.monotonic() - started

    result = {
        'accuracy_before': accuracy[0],
        'accuracy_after': accuracy[last],
        'seconds': round(seconds, 1),
        'optimizer_steps': int(status['optimizer_updates']),
        'run_dir': status['run_dir'],
    }
    say(f'Held-out accuracy {accuracy[0]:.1%} -> {accuracy[last]:.1%} after '
        f'{result["optimizer_steps"]} optimizer steps, {seconds:.0f} s in all')
    say(f'Run directory {status["run_dir"]}: final/ (Hugging Face format), metrics.jsonl, trace.json')
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    try:
        main()
    except CommandError as failure:
        raise SystemExit(f'error: {failure}') from None
