"""What only a training job shows of the engine: newer weights under running samples, and running samples that move."""
import json
import re
import signal
import subprocess
import time
import unittest
import urllib.request

from e2e import BIN, RECIPES, EndToEndTest

MODEL = ['--hidden-size', '128', '--layers', '4', '--heads', '4', '--kv-heads', '2',
         '--intermediate-size', '384', '--max-positions', '1024', '--tie', '--seed', '3']


class EngineTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.processes = []
        self.addCleanup(self.stop)

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, binary, name, *arguments):
        """Starts a daemon and returns what its ready file says."""
        ready = self.work / f'{name}.json'
        with open(self.work / f'{name}.log', 'wb') as log:
            self.processes.append(subprocess.Popen(
                [BIN / binary, '--name', name, '--ready-file', ready, *arguments],
                stdout=log, stderr=log))
        deadline = time.monotonic() + 60
        while not ready.exists():
            self.assertLess(time.monotonic(), deadline, f'{name} did not start')
            self.assertIsNone(self.processes[-1].poll(), f'{name} ended')
            time.sleep(0.05)
        return json.loads(ready.read_text())

    def start_all(self, *, coordinator=(), rollouts=((),)):
        """One worker for each of the argument lists `rollouts`."""
        self.coordinator = self.start('rollcall-coordinator', 'coordinator', '--state-dir',
                                      self.work / 'state', '--listen', '127.0.0.1:0',
                                      *coordinator)['address']
        joins = ('--coordinator', self.coordinator)
        workers = [self.start('rollcall-rollout', f'rollout-{i}', *joins, *arguments)
                   for i, arguments in enumerate(rollouts)]
        self.start('rollcall-reward', 'reward-0', *joins)
        for rank in range(2):
            self.start('rollcall-learner', f'learner-{rank}', *joins)
        subprocess.run([BIN / 'rollcall', 'init-model', self.model, *MODEL], check=True,
                       stdout=subprocess.DEVNULL)
        return workers

    def rollcall(self, *arguments):
        result = subprocess.run([BIN / 'rollcall', '--coordinator', self.coordinator, '--json', *arguments],
                                check=True, stdout=subprocess.PIPE, timeout=60)
        return json.loads(result.stdout)

    def submit(self, **settings):
        """Starts an asynchronous job."""
        settings = {'model.path': self.model, 'run.output_dir': self.work / 'runs',
                    'optimizer.warmup_steps': 0, 'evaluate.interval_steps': 0,
                    'evaluate.max_prompts': 4, 'sync.max_staleness': 4, **settings}
        changes = [part for key, value in settings.items() for part in ('--set', f'{key}={value}')]
        subprocess.run([BIN / 'rollcall', '--coordinator', self.coordinator, 'submit',
                        RECIPES / 'grpo_async.yaml', *changes], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)

    def wait_for(self, done, what):
        deadline = time.monotonic() + 240
        while not done():
            status = self.rollcall('status', 'last')
            self.assertNotEqual(status['state'], 'JOB_STATE_FAILED', status.get('state_reason'))
            self.assertLess(time.monotonic(), deadline, f'{what}: {status}')
            time.sleep(0.2)

    def state(self):
        return self.rollcall('status', 'last')['state']

    def test_samples_go_on_under_newer_weights(self):
        # Two sequences at once: sampling is what the learners wait for.
        self.start_all(rollouts=[('--max-sequences', '2')])
        for mode in ('in_flight', 'pause', 'drain'):
            self.submit(**{'rollout.max_new_tokens': 900, 'rollout.samples_per_prompt': 2,
                           'train.prompts_per_step': 4, 'train.total_steps': 12,
                           'sync.update_mode': mode})
            self.wait_for(lambda: self.state() == 'JOB_STATE_SUCCEEDED', mode)
            num_mixed = 0
            for step in range(1, 13):
                for versions in sample_versions(self.rollcall('inspect', 'last', '--step', str(step))):
                    self.assertEqual(versions, sorted(versions))
                    # The oldest token bounds the staleness of its sample.
                    self.assertLessEqual(step - 1 - versions[0], 4)
                    num_mixed += versions[0] != versions[-1]
            if mode == 'drain':
                self.assertEqual(num_mixed, 0)
            else:
                self.assertGreater(num_mixed, 0, mode)

    def test_the_coordinator_moves_running_samples(self):
        # A worker has 8,192 KV blocks: with six sequences it hands one over, with up to five it takes one.
        freeness = str(8192 / 5.5)
        workers = self.start_all(
            rollouts=[(), ()],
            coordinator=('--heartbeat-interval', '0.1', '--reschedule', 'defragment',
                         '--migrate-out-below', freeness, '--migrate-in-above', freeness))
        self.submit(**{'rollout.max_new_tokens': 900, 'train.prompts_per_step': 8, 'train.total_steps': 1000})

        def total(result):
            return sum(migrations(worker['metrics_address']).get(result, 0) for worker in workers)

        def steps():
            return int(self.rollcall('status', 'last').get('step', 0))

        self.wait_for(lambda: total('moved_out') >= 2, 'two samples that moved')
        at_move = steps()
        # What moved is part of a batch before long, and the job goes on.
        self.wait_for(lambda: steps() >= at_move + 6, 'steps after the moves')
        self.rollcall('cancel', 'last')
        self.wait_for(lambda: self.state() == 'JOB_STATE_CANCELLED', 'the end')
        self.assertGreaterEqual(total('moved_in'), 2)
        self.assertEqual(total('reclaimed'), 0)


def sample_versions(value):
    """Policy versions of the segments of every trajectory in an answer of `inspect`."""
    if isinstance(value, dict):
        if 'segments' in value:
            yield [int(segment.get('policy_version', 0)) for segment in value['segments']]
        for part in value.values():
            yield from sample_versions(part)
    elif isinstance(value, list):
        for part in value:
            yield from sample_versions(part)


def migrations(address):
    with urllib.request.urlopen(f'http://{address}/metrics', timeout=10) as answer:
        text = answer.read().decode()
    return {result: int(count) for result, count in re.findall(
        r'^rollcall_rollout_migrations_total\{result="(\w+)"\} (\d+)$', text, re.MULTILINE)}


if __name__ == '__main__':
    unittest.main()
