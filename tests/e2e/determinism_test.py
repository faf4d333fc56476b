"""kill -9 of every role in the middle of a job: same steps, every sample once, same bits."""
import pathlib
import signal
import sqlite3
import time
import unittest

from e2e import RECIPES, EndToEndTest, final_hash, metrics_lines

STEPS = 24
PROMPTS = 4
SAMPLES = 4


class Determinism(EndToEndTest):

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
            job = cluster.submit(
                RECIPES / 'grpo.yaml', model__path=self.model, run__output_dir=self.work / name,
                train__total_steps=STEPS, train__prompts_per_step=PROMPTS,
                rollout__samples_per_prompt=SAMPLES, rollout__lease_timeout='3s',
                reward__lease_timeout='3s', evaluate__interval_steps=0,
                checkpoint__interval_steps=5, evaluate__max_prompts=20,
                reward__scorers='[{type: char_accuracy}]')
            status = self.succeed(cluster, job, timeout=180, each=each)
        self.assertFalse(pending, 'the job ended before it was disturbed')
        self.assert_each_sample_trained_once(name, job, status)
        return status

    def assert_each_sample_trained_once(self, name, job, status):
        self.assertEqual(int(status['step']), STEPS)
        steps = [line['step'] for line in metrics_lines(status) if 'evaluation' not in line]
        self.assertEqual(steps, list(range(1, STEPS + 1)))
        with sqlite3.connect(f'file:{self.work / name}/journal.db?mode=ro', uri=True) as journal:
            rows = journal.execute(
                'SELECT iteration, prompt_id, sample_index, step FROM samples '
                "WHERE job_id = ? AND purpose = 1 AND state = 7", (job,)).fetchall()
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

    def test_a_stopped_process_is_replaced_or_waited_for(self):
        for process in ('rollout-0', 'reward-0', 'learner-1'):
            with self.subTest(stopped=process):
                stopped = []

                def stop(cluster):
                    stopped.append(cluster.pid(process))
                    cluster.kill(process, signal.SIGSTOP)

                try:
                    self.run_job(f'stop-{process}', stop)
                finally:
                    for pid in stopped:
                        try:
                            pathlib.Path(f'/proc/{pid}').exists() and __import__('os').kill(
                                pid, signal.SIGCONT)
                        except ProcessLookupError:
                            pass
                    time.sleep(0)


if __name__ == '__main__':
    unittest.main()
