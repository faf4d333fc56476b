"""The job of a user: a model directory written by transformers, a JSONL of prompts, and back."""
import json
import pathlib
import subprocess
import unittest

from e2e import BIN, ROOT, EndToEndTest

JOB = '''run: {name: mine, output_dir: runs}
model: {path: theirs}
data: {path: mine.jsonl, columns: {prompt: question, answer: solution}}
rollout: {samples_per_prompt: 4, max_new_tokens: 6}
reward:
  scorers:
    - {type: char_accuracy, weight: 0.5}
    - {type: exact_match}
algorithm: {preset: grpo}
optimizer: {learning_rate: 1.0e-3}
train: {total_steps: 3, prompts_per_step: 4}
'''


class UserFiles(EndToEndTest):

    def test_transformers_model_in_and_out(self):
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

        rows = [{'question': f'repeat {i:03d}: ', 'solution': f'{i:03d}'} for i in range(64)]
        (self.work / 'mine.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')
        (self.work / 'job.yaml').write_text(JOB)

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            [row['question'] + row['solution'] for row in rows],
            trainers.BpeTrainer(vocab_size=300, special_tokens=['<|endoftext|>'],
                                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        theirs = self.work / 'theirs'
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=64,
                             intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                             num_key_value_heads=2, max_position_embeddings=64,
                             eos_token_id=tokenizer.token_to_id('<|endoftext|>'))
        LlamaForCausalLM(config).save_pretrained(theirs)
        tokenizer.save(str(theirs / 'tokenizer.json'))

        cluster = self.cluster()
        with cluster:
            job = cluster.submit(self.work / 'job.yaml')
            status = self.succeed(cluster, job)
            exported = self.work / 'exported'
            cluster.run('export', job, exported)

        self.adapters_are_merged(theirs)

        before = LlamaForCausalLM.from_pretrained(theirs)
        after = AutoModelForCausalLM.from_pretrained(exported)
        changed = max((a - b).abs().max().item() for a, b in
                      zip(before.state_dict().values(), after.state_dict().values()))
        self.assertGreater(changed, 0)
        self.assertLess(changed, 0.1)
        self.assertEqual(Tokenizer.from_file(str(exported / 'tokenizer.json')).get_vocab(),
                         tokenizer.get_vocab())
        self.assertEqual(int(status['step']), 3)

    def adapters_are_merged(self, base):
        """By `rollcall convert`, into shards of half the bytes, and by a job that starts from it."""
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        def load(path):
            return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

        model = get_peft_model(load(base), LoraConfig(r=4, target_modules=['q_proj', 'up_proj'],
                                                      init_lora_weights=False, task_type='CAUSAL_LM'))
        adapter = self.work / 'adapter'
        model.save_pretrained(adapter)
        merged = model.merge_and_unload().state_dict()

        def distance(path):
            return max((value - merged[name]).abs().max().item()
                       for name, value in load(path).state_dict().items())

        cluster = self.cluster('adapters')
        converted = self.work / 'converted'
        report = cluster.json('convert', base, converted, '--adapter', adapter,
                              '--dtype', 'bfloat16', '--max-shard-size', '30KB')
        self.assertEqual((report['dtype'], report['adapted_modules']), ('BF16', 4))
        self.assertGreater(report['num_files'], 3)
        self.assertTrue((converted / 'tokenizer.json').exists())
        self.assertGreater(distance(base), 0.01)
        largest = max(value.abs().max().item() for value in merged.values())
        self.assertLess(distance(converted), largest / 256)
        with cluster:
            job = cluster.submit(self.work / 'job.yaml', model__adapter=adapter,
                                 train__total_steps=1, optimizer__learning_rate=1e-9)
            status = self.succeed(cluster, job)
        self.assertLess(distance(pathlib.Path(status['run_dir']) / 'final'), 1e-6)


if __name__ == '__main__':
    unittest.main()
