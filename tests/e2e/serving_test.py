"""The HTTP API of a standalone worker, with the stock OpenAI client and with bare requests."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import unittest

import openai
import torch
import transformers
from prometheus_client.parser import text_string_to_metric_families

from e2e import BIN, RECIPES, EndToEndTest

CHAT_TEMPLATE = ("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
                 "{% if tools %}[tools:{{ tools | length }}]{% endif %}"
                 "{% if add_generation_prompt %}<assistant>{% endif %}")
KEY = 'a-key-for-the-serving-test'


class Worker:
    """A rollcall-rollout process with the HTTP API."""

    def __init__(self, work, *flags):
        ready = pathlib.Path(work) / 'ready.json'
        ready.unlink(missing_ok=True)
        self.log = open(pathlib.Path(work) / 'worker.log', 'ab')
        self.process = subprocess.Popen(
            [BIN / 'rollcall-rollout', '--http', '127.0.0.1:0', '--ready-file', ready,
             '--exit-with-parent', *flags], stderr=self.log)
        deadline = time.monotonic() + 60
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(pathlib.Path(self.log.name).read_text(errors='replace'))
            time.sleep(0.02)
        self.address = json.loads(ready.read_text())['http_address']
        self.url = f'http://{self.address}'

    def client(self, **options):
        options = {'api_key': 'none', 'max_retries': 0, 'timeout': 120} | options
        return openai.OpenAI(base_url=f'{self.url}/v1', **options)

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request, without a client library."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, data,
                           {'Content-Type': 'application/json'} | (headers or {}))
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, dict(response.getheaders()), text

    def metrics(self):
        """Samples of /metrics by name and labels."""
        samples = {}
        for family in text_string_to_metric_families(self.ask('GET', '/metrics')[2]):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                samples[sample.name, labels] = sample.value
        return samples

    def metric(self, name, **labels):
        return sum(value for (found, with_labels), value in self.metrics().items()
                   if found == name and labels.items() <= dict(with_labels).items())

    def wait_for_metric(self, condition, name, **labels):
        deadline = time.monotonic() + 30
        while not condition(self.metric(name, **labels)):
            if time.monotonic() > deadline:
                raise AssertionError(f'{name} {labels} is {self.metric(name, **labels)}')
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.log.close()
        return code


class ServingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix='rollcall-serving-')
        cls.work = pathlib.Path(cls.temporary.name)
        cls.model = cls.work / 'tiny'
        subprocess.run([BIN / 'rollcall', 'init-model', cls.model, '--max-positions', '4096',
                        '--hidden-size', '64', '--seed', '5'], check=True, stdout=subprocess.PIPE)
        (cls.model / 'chat_template.jinja').write_text(CHAT_TEMPLATE)
        cls.worker = Worker(cls.work, '--model', cls.model, '--vllm-metrics')
        cls.openai = cls.worker.client()
        cls.reference = transformers.AutoModelForCausalLM.from_pretrained(cls.model)
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(cls.model)

    @classmethod
    def tearDownClass(cls):
        code = cls.worker.stop()
        cls.temporary.cleanup()
        assert code == 0, code

    def complete(self, prompt='Once upon a time', **options):
        extra = options.pop('extra', None)
        return self.openai.completions.create(model='tiny', prompt=prompt, extra_body=extra,
                                              **options)

    # --- the API -------------------------------------------------------------------------------

    def test_lists_its_model(self):
        models = self.openai.models.list().data
        self.assertEqual([model.id for model in models], ['tiny'])
        self.assertEqual(self.openai.models.retrieve('tiny').id, 'tiny')
        with self.assertRaises(openai.NotFoundError):
            self.openai.models.retrieve('other')
        status, _, body = self.worker.ask('GET', '/health')
        self.assertEqual((status, json.loads(body)), (200, {'status': 'ok'}))
        self.assertIn('version', json.loads(self.worker.ask('GET', '/version')[2]))

    def test_greedy_text_is_that_of_transformers(self):
        prompts = ['Once upon a time', 'x', 'häßlich, 日本語 🙂']
        answer = self.complete(prompts, max_tokens=24, temperature=0,
                               extra={'return_token_ids': True})
        for choice, prompt in zip(answer.choices, prompts):
            ids = self.tokenizer(prompt, return_tensors='pt').input_ids
            expected = self.reference.generate(ids, max_new_tokens=24, do_sample=False)[0]
            expected = expected[ids.shape[1]:].tolist()
            self.assertEqual(choice.token_ids, expected)
            self.assertEqual(choice.prompt_token_ids, ids[0].tolist())
            self.assertEqual(choice.text,
                             self.tokenizer.decode(expected, skip_special_tokens=True))
        self.assertEqual(answer.usage.completion_tokens, 72)

    def test_prompts_as_tokens(self):
        text = self.complete('ab', max_tokens=6, temperature=0).choices[0].text
        self.assertEqual(self.complete([97, 98], max_tokens=6, temperature=0).choices[0].text, text)
        both = self.complete([[97, 98], [97, 98]], max_tokens=6, temperature=0)
        self.assertEqual([choice.text for choice in both.choices], [text, text])

    def test_a_stream_is_the_whole_answer_in_pieces(self):
        options = {'max_tokens': 40, 'seed': 11, 'temperature': 1.0,
                   'extra': {'ignore_eos': True}}
        whole = self.complete(**options)
        stream = list(self.complete(stream=True, stream_options={'include_usage': True}, **options))
        self.assertEqual(''.join(c.choices[0].text for c in stream if c.choices),
                         whole.choices[0].text)
        self.assertEqual([c.choices[0].finish_reason for c in stream if c.choices][-1], 'length')
        self.assertEqual(stream[-1].usage.completion_tokens, 40)
        self.assertGreater(len(stream), 10)

    def test_seeds(self):
        texts = {seed: self.complete(max_tokens=16, seed=seed).choices[0].text
                 for seed in (1, 2, 3)}
        self.assertEqual(len(set(texts.values())), 3)
        for seed, text in texts.items():
            self.assertEqual(self.complete(max_tokens=16, seed=seed).choices[0].text, text)
        unseeded = {self.complete(max_tokens=16).choices[0].text for _ in range(3)}
        self.assertEqual(len(unseeded), 3)

    def test_several_choices(self):
        answer = self.complete(['a', 'b'], n=3, max_tokens=8, seed=4, extra={'ignore_eos': True})
        self.assertEqual([choice.index for choice in answer.choices], list(range(6)))
        self.assertEqual(len({choice.text for choice in answer.choices}), 6)
        # The prompt is counted once, whatever n is.
        self.assertEqual(answer.usage.prompt_tokens, 2)
        self.assertEqual(answer.usage.completion_tokens, 48)
        # A choice does not depend on how many there are.
        self.assertEqual(self.complete('a', n=1, max_tokens=8, seed=4,
                                       extra={'ignore_eos': True}).choices[0].text,
                         answer.choices[0].text)
        best = self.complete('a', n=1, best_of=6, max_tokens=8, seed=4, logprobs=0)
        every = self.complete('a', n=6, max_tokens=8, seed=4, logprobs=0)
        means = [statistics.mean(c.logprobs.token_logprobs) for c in every.choices]
        self.assertAlmostEqual(statistics.mean(best.choices[0].logprobs.token_logprobs),
                               max(means), places=4)
        self.assertEqual(best.usage.completion_tokens, every.usage.completion_tokens)

    def test_logprobs_are_those_of_transformers(self):
        answer = self.complete(max_tokens=8, seed=2, logprobs=0, extra={'return_token_ids': True})
        choice = answer.choices[0]
        ids = torch.tensor([choice.prompt_token_ids + choice.token_ids])
        with torch.no_grad():
            logits = self.reference(ids).logits[0]
        expected = torch.log_softmax(logits, -1)
        start = len(choice.prompt_token_ids)
        for i, token in enumerate(choice.token_ids):
            self.assertAlmostEqual(choice.logprobs.token_logprobs[i],
                                   expected[start + i - 1, token].item(), places=3)
        self.assertEqual(len(choice.logprobs.tokens), 8)
        self.assertEqual(choice.logprobs.text_offset, list(range(8)))

    def test_stops(self):
        options = {'max_tokens': 200, 'seed': 3}
        text = self.complete(**options).choices[0].text
        # A stop string of characters that the tokens of the text do not share.
        stop = next(text[i:i + 2] for i in range(20, 150) if text[i:i + 2].isascii())
        end = text.index(stop)
        stopped = self.complete(stop=[stop, 'never comes'], **options).choices[0]
        self.assertEqual(stopped.text, text[:end])
        self.assertEqual((stopped.finish_reason, stopped.stop_reason), ('stop', stop))
        shown = self.complete(stop=stop, extra={'include_stop_str_in_output': True}, **options)
        self.assertEqual(shown.choices[0].text, text[:end] + stop)
        streamed = ''.join(c.choices[0].text
                           for c in self.complete(stop=stop, stream=True, **options))
        self.assertEqual(streamed, text[:end])
        ids = self.complete(extra={'return_token_ids': True}, **options).choices[0].token_ids
        by_id = self.complete(extra={'return_token_ids': True, 'stop_token_ids': [ids[30]]},
                              **options).choices[0]
        self.assertEqual(by_id.token_ids, ids[:ids.index(ids[30]) + 1])
        self.assertEqual((by_id.finish_reason, by_id.stop_reason), ('stop', ids[30]))

    def test_echo(self):
        plain = self.complete('ab', max_tokens=4, seed=1).choices[0].text
        self.assertEqual(self.complete('ab', max_tokens=4, seed=1, echo=True).choices[0].text,
                         'ab' + plain)
        nothing = self.complete('ab', max_tokens=0, echo=True)
        self.assertEqual(nothing.choices[0].text, 'ab')
        self.assertEqual(nothing.usage.completion_tokens, 0)

    def prompt_table(self, ids):
        """Log-probabilities of every token at every place of a prompt but the first."""
        with torch.no_grad():
            return torch.log_softmax(self.reference(torch.tensor([ids])).logits[0].double(), -1)

    def test_echo_with_logprobs(self):
        text = 'Once upon a time'
        ids = self.tokenizer(text).input_ids
        table = self.prompt_table(ids)
        for max_tokens, n in ((0, 1), (3, 2)):
            answer = self.complete([text, 'x'], max_tokens=max_tokens, n=n, echo=True, logprobs=2,
                                   seed=1)
            self.assertEqual(answer.usage.completion_tokens, 2 * n * max_tokens)
            for choice in answer.choices[:n]:
                self.assertTrue(choice.text.startswith(text))
                logprobs = choice.logprobs
                self.assertEqual(len(logprobs.tokens), len(ids) + max_tokens)
                self.assertEqual(''.join(logprobs.tokens[:len(ids)]), text)
                self.assertEqual(logprobs.text_offset, list(range(len(ids) + max_tokens)))
                self.assertIsNone(logprobs.token_logprobs[0])
                self.assertIsNone(logprobs.top_logprobs[0])
                for i in range(1, len(ids)):
                    self.assertAlmostEqual(logprobs.token_logprobs[i],
                                           table[i - 1, ids[i]].item(), places=4)
                    top = logprobs.top_logprobs[i]
                    self.assertIn(logprobs.tokens[i], top)
                    self.assertIn(len(top), (2, 3))
                    self.assertAlmostEqual(max(top.values()), table[i - 1].max().item(), places=4)
                self.assertIsNotNone((logprobs.token_logprobs + [0])[len(ids)])
            self.assertEqual(len(answer.choices[-1].logprobs.tokens), 1 + max_tokens)

    def test_prompt_logprobs_as_vllm_has_them(self):
        text = 'Once upon a time'
        ids = self.tokenizer(text).input_ids
        table = self.prompt_table(ids)
        # Computed anew although the prompt is in the cache.
        for _ in range(2):
            answer = self.complete(text, max_tokens=1, n=2, extra={'prompt_logprobs': 3})
            for choice in answer.choices:
                first, *rest = choice.prompt_logprobs
                self.assertIsNone(first)
                self.assertEqual(len(rest), len(ids) - 1)
                for i, entry in enumerate(rest):
                    token = ids[i + 1]
                    own = entry[str(token)]
                    self.assertAlmostEqual(own['logprob'], table[i, token].item(), places=4)
                    self.assertEqual(own['rank'], (table[i] >= table[i, token]).sum().item())
                    self.assertEqual(own['decoded_token'], self.tokenizer.decode([token]))
                    ranks = sorted(e['rank'] for e in entry.values())
                    self.assertEqual(ranks, sorted({1, 2, 3, own['rank']}))
                    best = next(e for e in entry.values() if e['rank'] == 1)
                    self.assertAlmostEqual(best['logprob'], table[i].max().item(), places=4)
        chat = self.openai.chat.completions.create(
            model='tiny', messages=[{'role': 'user', 'content': 'Hi'}], max_tokens=1,
            extra_body={'prompt_logprobs': 0, 'return_token_ids': True})
        self.assertEqual([list(entry) for entry in chat.prompt_logprobs[1:]],
                         [[str(token)] for token in chat.prompt_token_ids[1:]])
        for body, param in (({'echo': True, 'logprobs': 1, 'stream': True}, 'echo'),
                            ({'prompt_logprobs': 1, 'stream': True}, 'prompt_logprobs'),
                            ({'prompt_logprobs': 20, 'prompt': [[1] * 4000] * 4},
                             'prompt_logprobs')):
            status, _, error = self.worker.ask('POST', '/v1/completions', {'prompt': 'ab'} | body)
            self.assertEqual((status, json.loads(error)['error']['param']), (400, param), error)

    def test_beam_search_is_that_of_transformers(self):
        text = 'Once upon a time'
        ids = self.tokenizer(text, return_tensors='pt').input_ids
        for width, n, penalty, early in ((4, 2, 1.0, False), (6, 6, 0.5, True),
                                         (3, 1, 2.0, 'never')):
            expected = self.reference.generate(
                ids, num_beams=width, num_return_sequences=n, length_penalty=penalty,
                early_stopping=early, do_sample=False, max_new_tokens=20, output_scores=True,
                return_dict_in_generate=True)
            answer = self.complete(
                text, max_tokens=20, n=n, best_of=width, temperature=0, logprobs=0,
                extra={'use_beam_search': True, 'length_penalty': penalty,
                       'early_stopping': early, 'return_token_ids': True})
            self.assertEqual(len(answer.choices), n)
            for choice, tokens, score in zip(answer.choices, expected.sequences.tolist(),
                                             expected.sequences_scores.tolist()):
                found = choice.token_ids
                self.assertEqual(found, tokens[ids.shape[1]:ids.shape[1] + len(found)])
                self.assertAlmostEqual(choice.beam_score, score, places=3)
                self.assertAlmostEqual(sum(choice.logprobs.token_logprobs) / len(found) ** penalty,
                                       score, places=3)
        chat = self.openai.chat.completions.create(
            model='tiny', messages=[{'role': 'user', 'content': 'Hi'}], max_tokens=5, n=2,
            extra_body={'use_beam_search': True})
        self.assertGreaterEqual(chat.choices[0].beam_score, chat.choices[1].beam_score)
        for field, value in (('temperature', 0.7), ('top_p', 0.5), ('stop', 'x'), ('stream', True),
                             ('logprobs', 2), ('presence_penalty', 1), ('guided_regex', 'a+')):
            status, _, error = self.worker.ask(
                'POST', '/v1/completions',
                {'prompt': 'ab', 'max_tokens': 2, 'use_beam_search': True, field: value})
            param = 'use_beam_search' if field == 'stream' else field
            self.assertEqual((status, json.loads(error)['error']['param']), (400, param), error)

    def test_chat(self):
        messages = [{'role': 'system', 'content': 'Be brief.'},
                    {'role': 'user', 'content': [{'type': 'text', 'text': 'Hello'},
                                                 {'type': 'text', 'text': 'there'}]}]
        answer = self.openai.chat.completions.create(
            model='tiny', messages=messages, max_completion_tokens=12, seed=9, logprobs=True,
            top_logprobs=0)
        self.assertEqual(answer.choices[0].message.role, 'assistant')
        self.assertEqual(answer.choices[0].finish_reason, 'length')
        self.assertEqual(len(answer.choices[0].logprobs.content), 12)
        prompt = '<system>Be brief.</><user>Hello\nthere</><assistant>'
        self.assertEqual(answer.usage.prompt_tokens, len(prompt))
        self.assertEqual(self.complete(prompt, max_tokens=12, seed=9).choices[0].text,
                         answer.choices[0].message.content)
        pieces = list(self.openai.chat.completions.create(
            model='tiny', messages=messages, max_tokens=12, seed=9, stream=True))
        self.assertEqual(pieces[0].choices[0].delta.role, 'assistant')
        self.assertEqual(''.join(p.choices[0].delta.content or '' for p in pieces),
                         answer.choices[0].message.content)
        tools = [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
        with_tools = self.openai.chat.completions.create(
            model='tiny', messages=messages, max_tokens=1, tools=tools)
        self.assertEqual(with_tools.usage.prompt_tokens, len(prompt) + len('[tools:1]'))

    # --- what completions must be --------------------------------------------------------------

    SCHEMA = {'type': 'object', 'properties': {
        'name': {'type': 'string', 'maxLength': 8},
        'age': {'type': 'integer', 'minimum': 0, 'maximum': 150},
        'tags': {'type': 'array', 'items': {'enum': ['a', 'b', 'c']}, 'maxItems': 3},
        'parent': {'anyOf': [{'type': 'null'}, {'type': 'boolean'}]}},
        'required': ['name', 'age', 'tags', 'parent'], 'additionalProperties': False}

    def assert_of_schema(self, text):
        value = json.loads(text)
        self.assertEqual(list(value), ['name', 'age', 'tags', 'parent'])
        self.assertLessEqual(len(value['name']), 8)
        self.assertIn(value['age'], range(151))
        self.assertTrue(set(value['tags']) <= {'a', 'b', 'c'} and len(value['tags']) <= 3, text)
        self.assertIn(value['parent'], (None, True, False))

    def test_response_format_gives_json_of_the_schema(self):
        options = {'model': 'tiny', 'messages': [{'role': 'user', 'content': 'Who?'}],
                   'max_tokens': 1000, 'seed': 3,
                   'response_format': {'type': 'json_schema',
                                       'json_schema': {'name': 'person', 'schema': self.SCHEMA}}}
        answer = self.openai.chat.completions.create(n=8, **options)
        for choice in answer.choices:
            self.assertEqual(choice.finish_reason, 'stop')
            self.assert_of_schema(choice.message.content)
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 4)
        pieces = self.openai.chat.completions.create(stream=True, **options)
        self.assertEqual(''.join(piece.choices[0].delta.content or '' for piece in pieces),
                         answer.choices[0].message.content)

    def test_response_format_json_object(self):
        # A random model writes endless strings: what there is, is the begin of an object.
        answer = self.openai.chat.completions.create(
            model='tiny', messages=[{'role': 'user', 'content': 'x'}], max_tokens=200, n=16, seed=1,
            response_format={'type': 'json_object'}, logit_bias={'125': 20, '34': 20})
        ended = [c.message.content for c in answer.choices if c.finish_reason == 'stop']
        self.assertGreater(len(ended), 0)
        for choice in answer.choices:
            self.assertTrue(choice.message.content.startswith('{'), choice.message.content)
        for text in ended:
            self.assertIsInstance(json.loads(text), dict)

    def test_grammars_by_vllm_names(self):
        pattern = r'(yes|no), \d{1,3}\.'
        for field in ({'guided_regex': pattern}, {'structured_outputs': {'regex': pattern}}):
            for choice in self.complete(n=4, max_tokens=50, seed=2, extra=field).choices:
                self.assertRegex(choice.text, f'^{pattern}$')
                self.assertEqual(choice.finish_reason, 'stop')
        for field in ({'guided_json': self.SCHEMA}, {'guided_json': json.dumps(self.SCHEMA)},
                      {'structured_outputs': {'json': self.SCHEMA}}):
            self.assert_of_schema(self.complete(max_tokens=1000, seed=2, extra=field).choices[0].text)

    def test_kv_budgets(self):
        def tokens(**extra):
            return self.complete('a prompt of some length', max_tokens=200, seed=6, extra={
                'ignore_eos': True, 'return_token_ids': True} | extra).choices[0].token_ids

        whole = tokens()
        self.assertEqual(tokens(kv_budget={'num_heavy': 1000, 'num_recent': 1000}), whole)
        bounded = tokens(kv_budget={'num_heavy': 8, 'num_recent': 8})
        self.assertEqual(len(bounded), 200)
        self.assertNotEqual(bounded, whole)

    def test_many_grammars_at_once(self):
        def complete(i):
            return self.complete(max_tokens=64, seed=i, extra={
                'guided_regex': '[a-z]{%d}%d' % (i % 40 + 1, i)}).choices[0].text

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            for i, text in enumerate(pool.map(complete, range(200))):
                self.assertRegex(text, '^[a-z]{%d}%d$' % (i % 40 + 1, i))

    def test_tokenize(self):
        _, _, body = self.worker.ask('POST', '/tokenize', {'prompt': 'hé'})
        self.assertEqual(json.loads(body)['tokens'], list('hé'.encode()))
        _, _, body = self.worker.ask('POST', '/detokenize', {'tokens': list('hé'.encode())})
        self.assertEqual(json.loads(body)['prompt'], 'hé')

    # --- what goes wrong -----------------------------------------------------------------------

    def test_errors_name_the_field(self):
        cases = [
            ({'prompt': 'a', 'temperature': -1}, 400, 'temperature'),
            ({'prompt': 'a', 'temperature': 'hot'}, 400, 'temperature'),
            ({'prompt': 'a', 'top_p': 0}, 400, 'top_p'),
            ({'prompt': 'a', 'n': 0}, 400, 'n'),
            ({'prompt': 'a', 'n': 2, 'best_of': 1}, 400, 'best_of'),
            ({'prompt': 'a', 'max_tokens': 100000}, 400, 'max_tokens'),
            ({'prompt': 'a', 'logprobs': 21}, 400, 'logprobs'),
            ({'prompt': 'a', 'suffix': 'z'}, 400, 'suffix'),
            ({'prompt': 'a', 'stop': [1]}, 400, 'stop'),
            ({'prompt': [99999]}, 400, 'prompt'),
            ({'prompt': {}}, 400, 'prompt'),
            ({'prompt': []}, 400, 'prompt'),
            ({'prompt': ''}, 400, 'prompt'),
            ({}, 400, 'prompt'),
            ({'prompt': 'a', 'model': 'other'}, 404, 'model'),
            ({'prompt': 'a', 'guided_regex': '(a'}, 400, 'guided_regex'),
            ({'prompt': 'a', 'kv_budget': {'num_heavy': 8}}, 400, 'kv_budget'),
            ({'prompt': 'a', 'guided_regex': 'a{9999}' * 20}, 400, 'guided_regex'),
            ({'prompt': 'a', 'guided_regex': 'a' * 70000}, 400, 'guided_regex'),
            ({'prompt': 'a', 'guided_json': {'not': {}}}, 400, 'guided_json'),
            ({'prompt': 'a', 'guided_json': '{'}, 400, 'guided_json'),
            ({'prompt': 'a', 'structured_outputs': {'regex': '(?=a)'}, 'stream': True},
             400, 'structured_outputs.regex'),
            ({'prompt': 'a', 'response_format': {'type': 'json_schema', 'json_schema': {
                'name': 'x', 'schema': {'type': 'number', 'multipleOf': 2}}}}, 400, 'response_format'),
            ({'prompt': 'a', 'guided_regex': 'b', 'allowed_token_ids': [97]}, 400, 'guided_regex'),
        ]
        for body, wanted, param in cases:
            status, _, text = self.worker.ask('POST', '/v1/completions', body)
            error = json.loads(text)['error']
            self.assertEqual((status, error['param']), (wanted, param), (body, text))
            self.assertTrue(error['message'])
        for body in ('', '{', '[]', '{"prompt": "a"', b'{"prompt": "\xff"}', '[' * 100000):
            status, _, text = self.worker.ask('POST', '/v1/completions', body)
            self.assertEqual(status, 400, body)
            self.assertIn('message', json.loads(text)['error'])
        status, _, text = self.worker.ask('POST', '/v1/chat/completions',
                                          {'messages': [{'role': 'robot', 'content': 'x'}]})
        self.assertEqual((status, json.loads(text)['error']['param']), (400, 'messages'))
        self.assertEqual(self.worker.ask('GET', '/nowhere')[0], 404)
        self.assertEqual(self.worker.ask('GET', '/v1/completions')[0], 405)
        self.assertEqual(self.worker.ask('POST', '/v1/completions', '{}',
                                         {'Content-Type': 'text/plain'})[0], 415)
        with self.assertRaises(openai.BadRequestError):
            self.complete(max_tokens=100000)

    def test_unknown_fields_are_ignored_and_counted(self):
        before = self.worker.metric('rollcall_serving_unknown_fields_total')
        status, headers, _ = self.worker.ask(
            'POST', '/v1/completions', {'prompt': 'a', 'max_tokens': 1, 'frobnicate': 1})
        self.assertEqual((status, headers['X-Ignored-Fields']), (200, 'frobnicate'))
        self.assertEqual(self.worker.metric('rollcall_serving_unknown_fields_total'), before + 1)

    def test_request_ids_and_timeouts(self):
        _, headers, body = self.worker.ask('POST', '/v1/completions',
                                           {'prompt': 'a', 'max_tokens': 1},
                                           {'X-Request-Id': 'mine-1'})
        self.assertEqual(headers['X-Request-Id'], 'mine-1')
        self.assertEqual(json.loads(body)['id'], 'cmpl-mine-1')
        long = {'prompt': 'a', 'max_tokens': 4000, 'ignore_eos': True}
        status, _, body = self.worker.ask('POST', '/v1/completions', long,
                                          {'X-Request-Timeout': '0.05'})
        self.assertEqual(status, 504, body)
        _, _, body = self.worker.ask('POST', '/v1/completions', long | {'stream': True},
                                     {'X-Request-Timeout': '0.2'})
        events = re.findall(r'^data: (.*)$', body, re.M)
        self.assertEqual(events[-1], '[DONE]')
        self.assertEqual(json.loads(events[-2])['choices'][0]['finish_reason'], 'abort')

    def test_a_client_that_goes_ends_its_completion(self):
        for stream in (False, True):
            gone = self.worker.metric('rollcall_serving_calls_failed_total', reason='client_gone')
            body = json.dumps({'prompt': 'a', 'max_tokens': 4000, 'n': 4, 'stream': stream,
                               'ignore_eos': True})
            with socket.create_connection(self.worker.address.split(':')) as connection:
                connection.sendall((f'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: '
                                    f'application/json\r\nContent-Length: {len(body)}\r\n\r\n'
                                    f'{body}').encode())
                self.worker.wait_for_metric(lambda n: n > 0, 'rollcall_rollout_sequences_running')
            self.worker.wait_for_metric(lambda n: n == 0, 'rollcall_serving_open_samples')
            self.worker.wait_for_metric(lambda n: n == 0, 'rollcall_rollout_sequences_running')
            self.assertEqual(self.worker.metric('rollcall_serving_calls_failed_total',
                                                reason='client_gone'), gone + 1)

    # --- many at once --------------------------------------------------------------------------

    def test_many_streams_at_once(self):
        def stream(i):
            return ''.join(c.choices[0].text for c in self.complete(
                f'prompt {i}', max_tokens=30, seed=i, stream=True))

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            together = list(pool.map(stream, range(64)))
        for i in (0, 17, 63):
            self.assertEqual(together[i], stream(i))

    def test_metrics_add_up(self):
        before = self.worker.metrics()
        options = {'prompt': 'a fairly long prompt that is seen again', 'max_tokens': 5, 'n': 2,
                   'extra': {'ignore_eos': True}}
        list(self.complete(stream=True, **options))
        for _ in range(2):
            self.complete(**options)
        after = self.worker.metrics()

        def delta(name, **labels):
            return sum(value - before.get(key, 0) for key, value in after.items()
                       if key[0] == name and labels.items() <= dict(key[1]).items())

        self.assertEqual(delta('vllm:request_success_total'), 6)
        self.assertEqual(delta('vllm:generation_tokens_total', model_name='tiny'), 30)
        self.assertEqual(delta('vllm:prompt_tokens_total'), 3 * 39)
        self.assertEqual(delta('vllm:prefix_cache_hits_total'), 2 * 32)
        for name in ('e2e_request_latency_seconds', 'request_queue_time_seconds',
                     'request_prefill_time_seconds', 'request_decode_time_seconds',
                     'request_inference_time_seconds', 'request_generation_tokens'):
            self.assertEqual(delta(f'vllm:{name}_count'), 6, name)
        self.assertEqual(delta('vllm:time_to_first_token_seconds_count'), 3)
        self.assertEqual(delta('vllm:inter_token_latency_seconds_count'), 8)
        self.assertIn(('vllm:num_requests_waiting', (('engine', '0'), ('model_name', 'tiny'))),
                      after)
        self.assertIn(('vllm:kv_cache_usage_perc', (('engine', '0'), ('model_name', 'tiny'))),
                      after)

    def test_keys_and_overload_and_shutdown(self):
        keys = self.work / 'keys'
        keys.write_text(KEY + '\n')
        work = self.work / 'second'
        work.mkdir()
        worker = Worker(work, '--model', self.model, '--api-key-file', keys, '--max-open-samples', '4',
                        '--served-model-name', 'org/name', '--drain-seconds', '0.3')
        try:
            with self.assertRaises(openai.AuthenticationError):
                worker.client().models.list()
            client = worker.client(api_key=KEY)
            self.assertEqual(client.models.retrieve('org/name').id, 'org/name')
            with self.assertRaises(openai.BadRequestError):
                client.completions.create(model='org/name', prompt='a', n=5, max_tokens=1)
            streams = [client.completions.create(model='org/name', prompt='a', n=2,
                                                 max_tokens=4000, stream=True,
                                                 extra_body={'ignore_eos': True})
                       for _ in range(2)]
            for stream in streams:
                next(stream)
            with self.assertRaises(openai.RateLimitError) as refused:
                client.completions.create(model='org/name', prompt='a', max_tokens=1)
            self.assertEqual(refused.exception.response.headers['Retry-After'], '1')
            streams[0].close()
            worker.wait_for_metric(lambda n: n == 2, 'rollcall_serving_open_samples')
            client.completions.create(model='org/name', prompt='a', max_tokens=1)
            # The second stream is told why it ends.
            worker.process.send_signal(signal.SIGTERM)
            with self.assertRaises(openai.APIError):
                for _ in streams[1]:
                    pass
        finally:
            self.assertEqual(worker.stop(), 0)


class JobServingTest(EndToEndTest):
    """A worker of a cluster serves the policies of its jobs beside their rollouts."""

    def test_serves_the_policy_of_a_running_job(self):
        cluster = self.cluster(rollout_workers=1, learners=2)
        self.make_model(cluster)
        with cluster:
            coordinator = json.loads((cluster.state_dir / 'cluster.json').read_text())['coordinator']
            job = cluster.submit(RECIPES / 'grpo.yaml', model__path=self.model,
                                 run__output_dir=self.work / 'runs', train__total_steps=100000,
                                 optimizer__warmup_steps=0, train__prompts_per_step=4)
            worker = Worker(self.work, '--coordinator', coordinator, '--name', 'extra')
            try:
                client = worker.client()
                self.wait_for(lambda: [m.id for m in client.models.list().data] == [job])
                versions = [0]
                for _ in range(3):
                    answer = client.completions.create(
                        model=job, prompt='3 1 2', max_tokens=8, n=2,
                        extra_body={'return_behavior_logprobs': True, 'ignore_eos': True})
                    for choice in answer.choices:
                        self.assertEqual(len(choice.behavior_logprobs), 8)
                        # One text is of one policy, and later ones are not older.
                        self.assertEqual(len(set(choice.policy_versions)), 1)
                        self.assertGreaterEqual(choice.policy_versions[0], versions[-1])
                    versions.append(answer.choices[0].policy_versions[0])
                    step = cluster.status(job)['step']
                    self.wait_for(lambda: cluster.status(job)['step'] > step)
                self.assertGreater(versions[-1], versions[1])
                cluster.run('cancel', job)
                self.wait_for(lambda: not client.models.list().data)
                with self.assertRaises(openai.NotFoundError):
                    client.completions.create(model=job, prompt='a', max_tokens=1)
            finally:
                self.assertEqual(worker.stop(), 0)

    def wait_for(self, condition, timeout=90):
        deadline = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)


if __name__ == '__main__':
    unittest.main(verbosity=2)
