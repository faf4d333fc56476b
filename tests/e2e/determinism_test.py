"""kill -9 of every role in the middle of a job: same steps, every sample once, same bits."""
import os
import pathlib
import signal
import sqlite3
import threading
import unittest

from e2e import DEMO_MODEL, RECIPES, EndToEndTest, evaluations, final_hash, metrics_lines

STEPS = 24
PROMPTS = 4
SAMPLES = 4
# Longer than any lease and than the heartbeat time-out.
STOPPED_SECONDS = 8


# An untrained model never sorts a number right; a digit in its place is a reward that varies.
JOB = f'''run: {{{{name: survivor}}}}
model: {{{{path: model}}}}
data: {{{{path: {{data}}/prompts.jsonl}}}}
rollout: {{{{samples_per_prompt: {SAMPLES}, max_new_tokens: 8, lease_timeout: 3s}}}}
reward:
  lease_timeout: 3s
  scorers:
    - {{{{type: char_accuracy}}}}
algorithm: {{{{preset: grpo}}}}
optimizer: {{{{learning_rate: 1.0e-3}}}}
train: {{{{total_steps: {STEPS}, prompts_per_step: {PROMPTS}}}}}
evaluate: {{{{path: {{data}}/held_out.jsonl, max_prompts: 20}}}}
checkpoint: {{{{interval_steps: 5}}}}
'''


class SamplesOnce(EndToEndTest):
    """What the journal must say of a job that ended."""

    def assert_each_sample_trained_once(self, state_dir, job, status, steps, samples_per_step):
        self.assertEqual(int(status['step']), steps)
        committed = [line['step'] for line in metrics_lines(status) if 'evaluation' not in line]
        self.assertEqual(committed, list(range(1, steps + 1)))
        journal_file = next(state_dir.glob('**/journal.db'))
        with sqlite3.connect(f'file:{journal_file}?mode=ro', uri=True) as journal:
            rows = journal.execute(
                'SELECT iteration, prompt_id, sample_index, step FROM samples '
                'WHERE job = ? AND purpose = 1 AND state = 7', (int(job.lstrip('j')),)).fetchall()
        self.assertEqual(len(rows), steps * samples_per_step)
        self.assertEqual(len({row[:3] for row in rows}), len(rows))
        for iteration, _, _, step in rows:
            self.assertEqual(step, iteration + 1)


class Determinism(SamplesOnce):

    def setUp(self):
        super().setUp()
        self.job_file = self.work / 'job.yaml'
        self.job_file.write_text(JOB.format(data=RECIPES / 'data'))

    def run_job(self, name, disturb=None, **cluster_options):
        """Runs the job in a cluster of its own; `disturb(cluster)` is called once at mid-way."""
        cluster = self.cluster(name, **cluster_options)
        if not self.model.exists():
            self.make_model(cluster)
        pending = [disturb] if disturb else []

        def each(status):
            if pending and int(status.get('step', 0)) >= STEPS // 3:
                pending.pop()(cluster)

        with cluster:
            job = cluster.submit(self.job_file, run__output_dir=self.work / name)
            status = self.succeed(cluster, job, timeout=180, each=each)
        self.assertFalse(pending, 'the job ended before it was disturbed')
        self.assert_each_sample_trained_once(self.work / name, job, status, STEPS, PROMPTS * SAMPLES)
        return status

    def test_same_weights_whatever_dies(self):
        expected = final_hash(self.run_job('undisturbed'))
        self.assertEqual(final_hash(self.run_job('one-worker', rollout_workers=1)), expected)
        for process in ('rollout-0', 'reward-0', 'learner-0', 'learner-1', 'coordinator'):
            with self.subTest(killed=process):
                status = self.run_job(f'kill-{process}',
                                      lambda cluster: cluster.kill(process, signal.SIGKILL))
                self.assertEqual(final_hash(status), expected)

    def test_a_stopped_process_is_waited_for_or_replaced(self):
        expected = final_hash(self.run_job('undisturbed'))
        for process in ('rollout-0', 'reward-0', 'learner-0', 'learner-1', 'coordinator'):
            with self.subTest(stopped=process):
                started = []

                def stop(cluster):
                    pid = cluster.pid(process)
                    cluster.kill(process, signal.SIGSTOP)
                    waker = threading.Timer(STOPPED_SECONDS, wake, [pid])
                    waker.start()
                    started.append(waker)

                try:
                    self.assertEqual(final_hash(self.run_job(f'stop-{process}', stop)), expected)
                finally:
                    for waker in started:
                        waker.join()


class DemoJob(SamplesOnce):
    """The job of `./dev demo`, from the warmed-up model on."""

    # The process of each role that is killed when the job has committed that step.
    KILLS = {60: 'rollout-0', 120: 'reward-0', 180: 'learner-0', 240: 'learner-1', 300: 'coordinator'}

    def run_demo_job(self, name, kills=(), **cluster_options):
        cluster = self.cluster(name, **cluster_options)
        pending = sorted(kills)

        def each(status):
            if pending and int(status.get('step', 0)) >= pending[0]:
                cluster.kill(kills[pending.pop(0)], signal.SIGKILL)

        with cluster:
            job = cluster.submit(RECIPES / 'grpo.yaml', model__path=self.model,
                                 run__output_dir=self.work / name)
            status = self.succeed(cluster, job, timeout=300, each=each)
        self.assertFalse(pending, 'the job ended before everything was killed')
        self.assert_each_sample_trained_once(self.work / name, job, status, 400, 32 * 8)
        return status

    def test_each_role_is_killed_in_turn(self):
        cluster = self.cluster('warm-up')
        cluster.run('init-model', self.work / 'fresh', *DEMO_MODEL)
        with cluster:
            job = cluster.submit(RECIPES / 'sft.yaml', model__path=self.work / 'fresh',
                                 run__output_dir=self.work / 'runs')
            warm = self.succeed(cluster, job)
        self.model = pathlib.Path(warm['run_dir']) / 'final'

        undisturbed = self.run_demo_job('undisturbed')
        accuracy = evaluations(undisturbed)
        self.assertLessEqual(accuracy[0], 0.40)
        self.assertGreaterEqual(accuracy[400], 0.85)
        expected = final_hash(undisturbed)
        self.assertEqual(final_hash(self.run_demo_job('killed', self.KILLS)), expected)
        self.assertEqual(final_hash(self.run_demo_job('one-worker', rollout_workers=1)), expected)


def wake(pid):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # It was replaced meanwhile.


if __name__ == '__main__':
    unittest.main()
