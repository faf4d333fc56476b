"""Jobs whose rows come from Parquet, and jobs whose rows are conversations."""
import json
import unittest

from e2e import EndToEndTest, metrics_lines

COMMON = '''run: {{name: {name}, output_dir: runs}}
model: {{path: model}}
data: {data}
algorithm: {{preset: {preset}}}
optimizer: {{learning_rate: 1.0e-3}}
train: {{total_steps: 2, prompts_per_step: 4}}
'''
SAMPLED = '''rollout: {samples_per_prompt: 2, max_new_tokens: 4}
reward:
  scorers: [{type: char_accuracy}]
'''


class Data(EndToEndTest):

    def job(self, name, preset, data, more=''):
        path = self.work / f'{name}.yaml'
        path.write_text(COMMON.format(name=name, preset=preset, data=data) + more)
        return path

    def write(self, path, rows, **options):
        import pyarrow as pa
        import pyarrow.parquet as pq
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path, **options)

    def test_grpo_sft_and_dpo_from_parquet(self):
        # As verl lays its rows out: the ground truth is nested, other columns stay with the row.
        asked = [{'data_source': 'repeat', 'question': {'text': f'repeat {i:02d}: '},
                  'reward_model': {'style': 'rule', 'ground_truth': f'{i:02d}'},
                  'extra_info': {'index': i}} for i in range(32)]
        hub = self.work / 'hub'
        self.write(hub / 'data' / 'train-00000-of-00002.parquet', asked[:10], compression='zstd')
        self.write(hub / 'data' / 'train-00001-of-00002.parquet', asked[10:24], row_group_size=5)
        self.write(hub / 'data' / 'test-00000-of-00001.parquet', asked[24:])
        self.write(self.work / 'sft.parquet',
                   [{'prompt': f'{i} is ', 'completion': str(i)} for i in range(16)])
        self.write(self.work / 'ranked.parquet',
                   [{'prompt': f'{i} is ', 'completions': [str(i), 'no', f'{i}!'],
                     'scores': [1.0, -1.0, 0.5]} for i in range(8)])
        with self.cluster() as cluster:
            self.make_model(cluster)
            grpo = self.job('grpo', 'grpo',
                            '{path: hub, split: train, columns: {prompt: question.text}}',
                            SAMPLED + 'evaluate: {path: hub, split: test}\n')
            status = self.succeed(cluster, cluster.submit(grpo))
            # Without the ground truth no sample would have a score.
            steps = [line for line in metrics_lines(status) if 'reward_mean' in json.dumps(line)]
            self.assertEqual(len(steps), 2)
            for line in steps:
                self.assertEqual(line.get('metrics', line)['failed'], 0)
            self.assertEqual(int(status['step']), 2)
            report = cluster.json('check', grpo)
            self.assertEqual(report['data']['num_rows'], 24)
            self.assertEqual(report['evaluation']['num_rows'], 8)

            sft = self.job('sft', 'sft', '{path: sft.parquet}')
            self.succeed(cluster, cluster.submit(sft))
            dpo = self.job('dpo', 'dpo', '{path: ranked.parquet, ranked_pairs: all}',
                           'resources: {learner_ranks: 2}\n')
            self.succeed(cluster, cluster.submit(dpo))

            report = cluster.json('check', self.work / 'ranked.parquet', '--model', self.model)
            self.assertEqual(report['data']['kinds'], ['pairs', 'prompts'])
            self.assertEqual(report['data']['columns']['scores']['types'], ['list of number'])
            self.assertEqual(report['data']['prompt_tokens']['longest'], 5)

    def test_grpo_sft_and_dpo_from_conversations(self):
        def user(text):
            return {'role': 'user', 'content': text}

        def assistant(text):
            return {'role': 'assistant', 'content': text}

        def write(name, rows):
            (self.work / name).write_text('\n'.join(map(json.dumps, rows)) + '\n')

        write('prompts.jsonl', [{'prompt': [user(f'{i:02d}')], 'ground_truth': f'{i:02d}'}
                                for i in range(16)])
        write('chats.jsonl', [{'messages': [user('a'), assistant(f'{i:02d}'), user('b'),
                                            assistant('no')]} for i in range(16)])
        write('pairs.jsonl', [{'chosen': [user(f'{i:02d}'), assistant('yes')],
                               'rejected': [user(f'{i:02d}'), assistant('no')]} for i in range(16)])
        with self.cluster() as cluster:
            self.make_model(cluster)
            sft = self.job('sft', 'sft', '{path: chats.jsonl}')
            with self.assertRaisesRegex(Exception, r'chats.jsonl:1: the row is a conversation, and '
                                                   r'.*model'):
                cluster.submit(sft)
            (self.model / 'chat_template.jinja').write_text(
                "{% for m in messages %}{{ m.role[0] + ':' }}"
                "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|endoftext|>' }}"
                "{% endgeneration %}{% else %}{{ m.content + '\\n' }}{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}a:{% endif %}")
            status = self.succeed(cluster, cluster.submit(sft))
            shown = cluster.json('inspect', status['job_id'], '--step', '1')
            self.assertIn('u:a\na:', json.dumps(shown).replace('\\n', '\n'))
            grpo = self.job('grpo', 'grpo', '{path: prompts.jsonl}', SAMPLED)
            self.succeed(cluster, cluster.submit(grpo))
            dpo = self.job('dpo', 'dpo', '{path: pairs.jsonl}')
            self.succeed(cluster, cluster.submit(dpo))
            report = cluster.json('check', self.work / 'chats.jsonl', '--model', self.model)
            self.assertEqual(report['data']['kinds'], ['completions'])
            # "NN", the end, "u:b\n", "a:", "no", the end.
            self.assertEqual(report['data']['completion_tokens']['longest'], 2 + 1 + 4 + 2 + 2 + 1)


if __name__ == '__main__':
    unittest.main()
