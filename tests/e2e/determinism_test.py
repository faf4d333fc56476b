"""kill -9 of every role in the middle of a job: same steps, every sample once, same bits."""
import os
import signal
import sqlite3
import threading
import unittest

from e2e import RECIPES, EndToEndTest, final_hash, metrics_lines

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


class Determinism(EndToEndTest):

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
        self.assert_each_sample_trained_once(name, job, status)
        return status

    def assert_each_sample_trained_once(self, name, job, status):
        self.assertEqual(int(status['step']), STEPS)
        steps = [line['step'] for line in metrics_lines(status) if 'evaluation' not in line]
        self.assertEqual(steps, list(range(1, STEPS + 1)))
        journal_file = next((self.work / name).glob('**/journal.db'))
        with sqlite3.connect(f'file:{journal_file}?mode=ro', uri=True) as journal:
            rows = journal.execute(
                'SELECT iteration, prompt_id, sample_index, step FROM samples '
                'WHERE job = ? AND purpose = 1 AND state = 7', (int(job.lstrip('j')),)).fetchall()
        self.assertEqual(len(rows), STEPS * PROMPTS * SAMPLES)
        self.assertEqual(len({row[:3] for row in rows}), len(rows))
        for iteration, _, _, step in rows:
            self.assertEqual(step, iteration + 1)

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
        for process in ('rollout-0', 'reward-0', 'learner-1', 'coordinator'):
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


def wake(pid):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # It was replaced meanwhile.


if __name__ == '__main__':
    unittest.main()
