#!/usr/bin/env python3
"""./dev bench rollout: the engine beside transformers and llama.cpp, on the same weights and the same prompts.

All figures of a case come from runs that take turns, so that a slow minute of the machine meets everybody; the median is
reported with its spread, (largest - smallest) / median. Ours samples at temperature 1 and returns log-probabilities
everywhere; llama-batched-bench draws no samples. llama.cpp keeps its default KV cache of float16."""
import argparse
import itertools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

from bench_report import report
from bench_rollout_models import MAX_POSITIONS, SHAPES, Model, make_work, write_work
from bench_rollout_peers import Llama, Transformers

PARTS = ('shapes', 'contexts', 'linear', 'work', 'memory')
BYTES = {'fp32': 4, 'bf16': 2}
CONTEXTS = (256, 1024, 4096, 8192)
DECODED = 128          # tokens of a prompt, and tokens decoded after it
LOGIT_TOLERANCE = 2e-3  # llama.cpp rounds attention to float16; a wrong layout of q and k is off by 3e-2 and more


class Ours:
    def __init__(self, bin_dir):
        self.program = f'{bin_dir}/rollout_bench'

    def run(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=900)
        return json.loads(done.stdout)

    def decode(self, model, precision, threads, sequences, prompt, new):
        out = self.run('decode', model.path, *self.setting(precision, threads), '--sequences', sequences, '--prompt', prompt,
                       '--new', new)
        return {kind: out[f'{kind}_tokens'] / out[f'{kind}_seconds'] for kind in ('prefill', 'decode')}

    @staticmethod
    def setting(precision, threads):
        return ('--precision', precision, '--threads', threads)


class Bench:
    def __init__(self, options):
        self.options = options
        self.ours = Ours(options.bin)
        self.llama = Llama(options.llama)
        self.rounds = 1 if options.quick else 3
        self.cores = len(os.sched_getaffinity(0))
        self.rows = []
        self.peaks = {}
        cache = pathlib.Path(options.models)
        cache.mkdir(parents=True, exist_ok=True)
        self.models = {size: Model(size, cache, options.bin) for size in (['3M'] if options.quick else options.sizes)}

    def say(self, what):
        print(f'... {what}', file=sys.stderr, flush=True)

    def add(self, case, figure, unit, values, peer=None, peer_values=None):
        """Lists of rounds, or one number."""
        row = {'case': case, 'figure': figure, 'unit': unit, **middle(values)}
        if peer is not None:
            row['peer'] = peer
            row.update({f'peer_{key}': value for key, value in middle(peer_values).items()})
            row['ratio'] = round(row['value'] / row['peer_value'], 3)
        self.rows.append(row)

    def threads(self):
        return sorted({1, self.cores}, reverse=True)

    def take_turns(self, contenders, rounds=None):
        """{name: function} -> {name: what it returned, round by round}."""
        results = {name: [] for name in contenders}
        for _ in range(rounds or self.rounds):
            for name, run in contenders.items():
                results[name].append(run())
        return results

    @staticmethod
    def best(choices, speed):
        """The choice of the highest speed; nothing runs where there is no choice."""
        return max(choices, key=speed) if len(choices) > 1 else choices[0]

    def machine(self):
        self.say('the peaks of this machine')
        for threads in self.threads():
            peaks = self.ours.run('machine', '--threads', threads)
            self.peaks[threads] = peaks
            for key, figure, unit in (
                    ('read_12mib', 'reading 12 MiB', 'GB/s'), ('read_112mib', 'reading 112 MiB', 'GB/s'),
                    ('read', 'reading 128 MiB a thread', 'GB/s'), ('fp32', 'float32 multiply-add', 'GFLOP/s'),
                    ('bf16', 'bfloat16 dot product', 'GFLOP/s')):
                if peaks[key] > 0:
                    self.add(f'machine, {threads_text(threads)}', figure, unit, peaks[key])

    def check_weights(self, work_dir):
        """The GGUF files hold what transformers reads."""
        for size, model in self.models.items():
            work = make_work(model.vocab_size, 1, (200, 200), (1, 1), seed=7)
            write_work(work, work_dir / 'check.txt')
            theirs = Transformers(model.path, 'fp32', self.cores).logits(work[0][1])
            difference = (self.llama.logits(model.gguf('fp32'), work_dir / 'check.txt') - theirs).abs().max().item()
            if difference > LOGIT_TOLERANCE:
                sys.exit(f'{model.gguf("fp32")}: logits differ from those of transformers by {difference}')
            self.add(f'{size} fp32', 'largest difference of a logit, llama.cpp to transformers', '', difference)

    def aggregate(self, work_dir):
        """Work A: prompts and completions of mixed length, all at hand at the start."""
        threads, batch_size = self.cores, {}
        for size, model in self.models.items():
            work = make_work(model.vocab_size, 32 if self.options.quick else 128, (16, 256), (1, 256))
            path = work_dir / f'{size}.txt'
            write_work(work, path)
            for precision in self.options.precisions:
                case = f'{size} {precision}, {len(work)} prompts, {threads_text(threads)}'
                self.say(case)

                def ours(slots, model=model, precision=precision, path=path):
                    out = self.ours.run('run', model.path, path, *self.ours.setting(precision, threads), '--max-sequences', slots)
                    self.empty_slots[f'{size} {precision}'] = out['empty_slots']
                    return out['tokens'] / out['seconds']

                def theirs(slots, model=model, precision=precision, path=path):
                    return self.llama.work(model.gguf(precision), path, threads, slots)

                slots = self.best((32,) if self.options.quick else (16, 32, 64), theirs)
                our_slots = self.best((32,) if self.options.quick else (16, 32, 128), ours)
                self.add(case, 'sequences at once', '', our_slots)
                speeds = self.take_turns({'ours': lambda: ours(our_slots), f'llama.cpp, {slots} slots': lambda: theirs(slots)})
                transformer = Transformers(model.path, precision, threads)
                # The larger model takes the batch size that was best for the smaller one: each try would take minutes.
                if precision not in batch_size:
                    self.say(f'{case}: generate')
                    batch_size[precision] = self.best((32,) if self.options.quick else (8, 32, 128),
                                                      lambda size: transformer.static(work, size))
                self.say(f'{case}: generate, batches of {batch_size[precision]}')
                speeds[f'generate, batches of {batch_size[precision]}'] = [transformer.static(work, batch_size[precision])]
                if not self.options.quick or precision == 'fp32':
                    self.say(f'{case}: continuous batching of transformers')
                    try:
                        speeds['transformers, continuous batching'] = [transformer.continuous(work)]
                    except RuntimeError as error:
                        self.say(f'{case}: left out: {error}')
                for peer, values in speeds.items():
                    if peer != 'ours':
                        self.add(case, 'useful tokens', 'tok/s', speeds['ours'], peer, values)

    def single_shapes(self):
        """Work B: equal sequences beside llama-batched-bench, and both beside the machine's peaks."""
        for threads in self.threads():
            for size, model in self.models.items():
                for precision in self.options.precisions:
                    for sequences in (1, 8, 32):
                        case = f'{size} {precision}, {sequences} sequences, {threads_text(threads)}'
                        self.say(case)
                        new = DECODED if size == '30M' or sequences > 1 else 4 * DECODED
                        speeds = self.take_turns({
                            'ours': lambda: self.ours.decode(model, precision, threads, sequences, DECODED, new),
                            'peer': lambda: self.llama.batched(model.gguf(precision), threads, sequences, DECODED, new)},
                            rounds=self.rounds if threads == self.cores else 1)
                        for kind in ('decode', 'prefill'):
                            self.add(case, kind, 'tok/s', [speed[kind] for speed in speeds['ours']], 'llama-batched-bench',
                                     [speed[kind] for speed in speeds['peer']])
                        self.add_roofline(case, model, precision, threads, sequences, DECODED + new / 2)

    def add_roofline(self, case, model, precision, threads, sequences, context):
        decode, prefill = (row['value'] for row in self.rows[-2:])
        peaks = self.peaks[threads]
        read = model.matrix_weights + sequences * context * model.kv_values_per_token
        gigabytes = 1e-9 * BYTES[precision] * read * decode / sequences
        roof = 'read_12mib' if model.size == '3M' else 'read_112mib'
        self.add(case, 'decode: bytes of weights, keys and values', 'GB/s', gigabytes, 'read bandwidth', peaks[roof])
        peak = peaks[precision] or peaks['fp32']
        for kind, rate, length in (('decode', decode, context), ('prefill', prefill, DECODED / 2)):
            flops = 2e-9 * rate * (model.matrix_weights + length * model.attention_products_per_key)
            self.add(case, f'{kind}: arithmetic', 'GFLOP/s', flops, f'{precision} peak', peak)

    def contexts(self):
        """Decoding of one sequence grows with its context as the bytes of keys and values do."""
        if '30M' not in self.models:
            return
        model, threads = self.models['30M'], self.cores
        for precision in self.options.precisions:
            seconds = {}
            for context in CONTEXTS:
                case = f'30M {precision}, context {context}, {threads_text(threads)}'
                self.say(case)
                speeds = self.take_turns({
                    'ours': lambda: self.ours.decode(model, precision, threads, 1, context, 32)['decode'],
                    'peer': lambda: self.llama.batched(model.gguf(precision), threads, 1, context, 32)['decode']}, rounds=2)
                self.add(case, 'decode, one sequence', 'tok/s', speeds['ours'], 'llama-batched-bench', speeds['peer'])
                seconds[context] = 1 / statistics.median(speeds['ours'])
                self.add(case, 'keys and values read for a token', 'MB',
                         1e-6 * BYTES[precision] * context * model.kv_values_per_token)
                if context > CONTEXTS[0]:
                    more = 1e-9 * BYTES[precision] * (context - CONTEXTS[0]) * model.kv_values_per_token
                    self.add(case, f'keys and values beyond context {CONTEXTS[0]} in the time beyond', 'GB/s',
                             more / max(1e-9, seconds[context] - seconds[CONTEXTS[0]]), 'read bandwidth',
                             self.peaks[threads]['read_112mib'])

    def memory(self):
        """After aggregate, which counts empty slots."""
        for case, share in self.empty_slots.items():
            self.add(case, 'KV slots in use that hold nothing', '%', 100 * share)
        size, model = next(iter(self.models.items()))
        out = self.ours.run('group', model.path)
        self.add(f'{size}, one prompt, {out["samples"]} samples', 'prompt tokens computed per prompt token', '',
                 out['prefilled_tokens'] / out['prompt_tokens'])

    def determinism(self):
        """Every one of our layers is batch-invariant; at::linear, which is not, is the yardstick of its price."""
        self.say('linear layers')
        for threads, precision, outputs, rows in itertools.product(
                self.threads(), self.options.precisions, (1536, 8192), (1, 8, 32, 512)):
            out = self.ours.run('linear', *self.ours.setting(precision, threads), '--rows', rows, '--depth', 512, '--outputs',
                                outputs)
            self.add(f'{precision} linear 512 -> {outputs}, {threads_text(threads)}', f'{rows} rows', 'GFLOP/s', out['ours'],
                     'at::linear', out['at_linear'])

    def run(self):
        self.empty_slots = {}
        before = processor_seconds()
        with tempfile.TemporaryDirectory(prefix='rollcall-bench-') as directory:
            work_dir = pathlib.Path(directory)
            self.machine()
            self.check_weights(work_dir)
            parts = {'shapes': self.single_shapes, 'contexts': self.contexts, 'linear': self.determinism,
                     'work': lambda: self.aggregate(work_dir), 'memory': self.memory}
            for part in self.options.parts:
                parts[part]()
        everybody, own = (after - start for after, start in zip(processor_seconds(), before))
        self.add('machine', 'processor time that went to others meanwhile', '%', 100 * max(0.0, 1 - own / everybody))
        return self.rows


def middle(values):
    """{'value': median} and, of more than one round, {'spread': (largest - smallest) / median}."""
    values = values if isinstance(values, list) else [values]
    value = statistics.median(values)
    spread = {'spread': round((max(values) - min(values)) / value, 3)} if len(values) > 1 else {}
    return {'value': round(value, 6 if abs(value) < 1 else 3), **spread}


def threads_text(threads):
    return '1 thread' if threads == 1 else f'{threads} threads'


def processor_seconds():
    """(of all processes, of this one and its children) since some time ago."""
    with open('/proc/stat', encoding='utf-8') as file:
        user, nice, system = map(int, file.readline().split()[1:4])
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return ((user + nice + system) / os.sysconf('SC_CLK_TCK'), sum(usage.ru_utime + usage.ru_stime for usage in usages))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True, help='directory of rollcall and rollout_bench')
    parser.add_argument('--llama', required=True, help='directory of the built llama.cpp')
    parser.add_argument('--models', required=True, help='directory that keeps the models')
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--quick', action='store_true', help='the small model, fewer prompts, one round')
    parser.add_argument('--precisions', type=lambda text: text.split(','), default=['fp32', 'bf16'])
    parser.add_argument('--sizes', type=lambda text: text.split(','), default=list(SHAPES))
    parser.add_argument('--parts', type=lambda text: text.split(','), default=PARTS, help=f'of {",".join(PARTS)}')
    options = parser.parse_args()
    for name, known in (('precisions', BYTES), ('sizes', SHAPES), ('parts', PARTS)):
        if unknown := [value for value in getattr(options, name) if value not in known]:
            parser.error(f'--{name}: {unknown[0]} is none of {", ".join(known)}')
    report('rollout', Bench(options).run(), options.json)


if __name__ == '__main__':
    main()
