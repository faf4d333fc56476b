#!/usr/bin/env python3
"""./dev bench startup: from `rollcall up` to the first optimizer step of a tiny model."""
import argparse
import pathlib
import statistics
import tempfile
import time

from bench_report import report
from demo import MODEL, RECIPES
from local_cluster import LocalCluster


def once(bin_dir, work):
    model = work / 'model'
    cluster = LocalCluster(bin_dir, work / 'state')
    cluster.run('init-model', model, *MODEL)
    started = time.monotonic()
    with cluster:
        up = time.monotonic() - started
        job = cluster.submit(RECIPES / 'grpo.yaml', model__path=model, run__output_dir=work / 'runs',
                             train__total_steps=2, optimizer__warmup_steps=0, evaluate__path='', evaluate__interval_steps=0)
        submitted = time.monotonic() - started
        while int(cluster.status(job).get('step', 0)) < 1:
            if time.monotonic() - started > 60:
                raise TimeoutError('no optimizer step within 60 s')
            time.sleep(0.01)
        return up, submitted, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--repeats', type=int, default=5)
    options = parser.parse_args()
    runs = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix='rollcall-bench-') as work:
            runs.append(once(options.bin, pathlib.Path(work)))
    figures = ('up', 'up + submit', 'up + submit + first step')
    rows = []
    for figure, values in zip(figures, zip(*runs)):
        rows.append({'case': 'tiny model, 1+2+1+2 processes', 'figure': f'{figure}, median',
                     'unit': 's', 'value': round(statistics.median(values), 3)})
        rows.append({'case': 'tiny model, 1+2+1+2 processes', 'figure': f'{figure}, worst',
                     'unit': 's', 'value': round(max(values), 3)})
    report('startup', rows, options.json)


if __name__ == '__main__':
    main()
