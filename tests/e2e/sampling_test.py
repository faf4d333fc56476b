"""Laws that restrict what is sampled, through the whole system: the learner applies the same one."""
import re
import unittest

from e2e import RECIPES, EndToEndTest, final_hash, metrics_lines

STEPS = 3
JOB = '''run: {{name: law}}
model: {{path: model}}
data: {{path: {data}/prompts.jsonl}}
rollout:
  samples_per_prompt: 4
  max_new_tokens: 8
{law}
reward:
  scorers:
    - {{type: char_accuracy}}
algorithm: {{preset: grpo, correction: {correction}}}
optimizer: {{learning_rate: 1.0e-3}}
train: {{total_steps: {steps}, prompts_per_step: 4}}
'''
LAWS = {
    'top_p': '  top_p: 0.9',
    'top_k': '  top_k: 20',
    'min_p': '  min_p: 0.5',
    'penalties': '  repetition_penalty: 1.3\n  presence_penalty: 0.2\n  logit_bias: {{"48": 1.5}}',
    'regex': '  top_p: 0.95\n  grammar: {{regex: "[0-9]{{1,3}}( [0-9]+)*"}}',
    'json': '  grammar: {{json_schema: \'{{"type": "array", "items": {{"type": "integer"}}}}\'}}',
}


class Sampling(EndToEndTest):

    def run_job(self, name, law, correction='none', **options):
        job_file = self.work / f'{name}.yaml'
        job_file.write_text(JOB.format(data=RECIPES / 'data', law=law.format(), steps=STEPS,
                                       correction=correction))
        cluster = self.cluster(name, **options)
        if not self.model.exists():
            self.make_model(cluster)
        with cluster:
            job = cluster.submit(job_file, model__path=self.model,
                                 run__output_dir=self.work / f'runs-{name}')
            return self.succeed(cluster, job)

    def test_the_learner_applies_the_law(self):
        for name, law in LAWS.items():
            with self.subTest(law=name):
                status = self.run_job(name, law)
                gaps = [line['logprob_gap_max'] for line in metrics_lines(status)
                        if 'logprob_gap_max' in line]
                self.assertEqual(gaps, [0] * STEPS)

    def test_one_worker_gives_the_same_weights(self):
        law = LAWS['regex']
        self.assertEqual(final_hash(self.run_job('two', law)),
                         final_hash(self.run_job('one', law, rollout_workers=1)))

    def test_a_kv_budget_is_another_law_and_needs_a_correction(self):
        law = '  kv_budget: {{num_heavy: 2, num_recent: 2}}'
        status = self.run_job('budget', law, correction='token_truncate')
        gaps = [line['logprob_gap_max'] for line in metrics_lines(status)
                if 'logprob_gap_max' in line]
        self.assertEqual(len(gaps), STEPS)
        self.assertGreater(min(gaps), 0)
        with self.assertRaisesRegex(Exception, 'algorithm.correction: rollout.kv_budget'):
            self.run_job('uncorrected', law)

    def test_a_grammar_that_is_wrong_is_refused_at_submission(self):
        with self.assertRaisesRegex(Exception, re.compile('grammar', re.I)):
            self.run_job('wrong', '  grammar: {{regex: "(a"}}')


if __name__ == '__main__':
    unittest.main()
