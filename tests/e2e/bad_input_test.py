"""Every broken input gets one clear message and leaves other jobs alone."""
import pathlib
import shutil
import socket
import struct
import subprocess
import unittest

from e2e import BIN, RECIPES, CommandError, EndToEndTest, LocalCluster

GOOD = '''run:
  name: good
  output_dir: runs
model:
  path: model
data:
  path: prompts.jsonl
rollout:
  samples_per_prompt: 2
  max_new_tokens: 4
reward:
  scorers:
    - type: exact_match
algorithm:
  preset: grpo
train:
  total_steps: 3
  prompts_per_step: 2
'''


class BadInput(EndToEndTest):

    def setUp(self):
        super().setUp()
        shutil.copy(RECIPES / 'data' / 'prompts.jsonl', self.work / 'prompts.jsonl')

    def job(self, text, name='job.yaml'):
        (self.work / name).write_text(text, encoding='utf-8')
        return self.work / name

    def refused(self, cluster, *parts, command=('submit',), **changes):
        """The command fails, and its message has all the parts."""
        with self.assertRaises(CommandError) as raised:
            cluster.run(*command, **changes)
        self.assertNotEqual(raised.exception.code, 0)
        for part in parts:
            self.assertIn(part, raised.exception.stderr)

    def test_each_is_named_and_the_neighbour_goes_on(self):
        cluster = self.cluster()
        self.make_model(cluster)
        with cluster:
            neighbour = cluster.submit(self.job(GOOD.replace('total_steps: 3', 'total_steps: 40')))

            path = self.job(GOOD.replace('rollout:', 'rollout: ['))
            self.refused(cluster, 'job.yaml:', command=('submit', path))
            path = self.job(GOOD.replace('max_new_tokens', 'max_new_token'))
            self.refused(cluster, 'job.yaml:10', 'max_new_token', "'max_new_tokens'",
                         command=('submit', path))
            path = self.job(GOOD.replace('total_steps: 3', 'total_steps: many'))
            self.refused(cluster, 'job.yaml:17', 'total_steps', command=('submit', path))
            path = self.job(GOOD.replace('samples_per_prompt: 2', 'samples_per_prompt: 1'))
            self.refused(cluster, 'samples_per_prompt', command=('submit', path))

            path = self.job(GOOD.replace('path: model', 'path: absent'))
            self.refused(cluster, 'absent', command=('submit', path))

            truncated = self.work / 'truncated'
            shutil.copytree(self.model, truncated)
            weights = truncated / 'model.safetensors'
            weights.write_bytes(weights.read_bytes()[:-1000])
            path = self.job(GOOD.replace('path: model', 'path: truncated'))
            self.refused(cluster, 'model.safetensors', command=('submit', path))

            huge_header = self.work / 'huge'
            shutil.copytree(self.model, huge_header)
            (huge_header / 'model.safetensors').write_bytes(struct.pack('<Q', 1 << 60) + b'{}')
            path = self.job(GOOD.replace('path: model', 'path: huge'))
            self.refused(cluster, 'model.safetensors', command=('submit', path))

            misfit = self.work / 'misfit'
            shutil.copytree(self.model, misfit)
            tokenizer = misfit / 'tokenizer.json'
            tokenizer.write_text(tokenizer.read_text().replace('"id": 256', '"id": 300')
                                 .replace('"id":256', '"id":300'))
            path = self.job(GOOD.replace('path: model', 'path: misfit'))
            self.refused(cluster, 'tokenizer', command=('submit', path))

            lines = (self.work / 'prompts.jsonl').read_text().splitlines()
            lines[6] = lines[6][:-3]
            (self.work / 'broken.jsonl').write_text('\n'.join(lines) + '\n')
            path = self.job(GOOD.replace('prompts.jsonl', 'broken.jsonl'))
            self.refused(cluster, 'broken.jsonl:7', command=('submit', path))

            self.succeed(cluster, neighbour)

    def test_a_used_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            port = taken.getsockname()[1]
            cluster = LocalCluster(BIN, self.work / 'state')
            self.refused(cluster, str(port), command=('up', '--detach', '--port', port))

    def test_an_unreachable_coordinator_is_named_quickly(self):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        cluster = LocalCluster(BIN, self.work / 'state')
        with self.assertRaises(CommandError) as raised:
            cluster.run('--coordinator', f'127.0.0.1:{port}', 'list', timeout=20)
        self.assertEqual(raised.exception.code, 3)
        self.assertIn(str(port), raised.exception.stderr)

    def test_a_full_disk_stops_that_job_alone(self):
        full = pathlib.Path('/dev/full')
        if not full.exists():
            self.skipTest('no /dev/full')
        cluster = self.cluster()
        self.make_model(cluster)
        with cluster:
            neighbour = cluster.submit(self.job(GOOD.replace('total_steps: 3', 'total_steps: 40')))
            job = cluster.submit(self.job(GOOD.replace('total_steps: 3', 'total_steps: 400'), 'b.yaml'))
            # Its metrics file turns into a device without room.
            run_dir = pathlib.Path(cluster.status(job)['run_dir'])
            metrics = run_dir / 'metrics.jsonl'
            metrics.unlink(missing_ok=True)
            metrics.symlink_to(full)
            status = cluster.wait(job, 120)
            self.assertEqual(status['state'], 'JOB_STATE_FAILED')
            self.assertIn('metrics.jsonl', status['state_reason'])
            self.succeed(cluster, neighbour)

    def test_a_checkpoint_without_room_names_the_file(self):
        small = self.work / 'small'
        small.mkdir()
        mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', small],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest('needs the right to mount a file system')
        self.addCleanup(subprocess.run, ['umount', '--lazy', small], check=True)
        cluster = self.cluster()
        self.make_model(cluster)
        with cluster:
            neighbour = cluster.submit(self.job(GOOD))
            job = cluster.submit(self.job(GOOD, 'b.yaml'), run__output_dir=small)
            status = cluster.wait(job, 120)
            self.assertEqual(status['state'], 'JOB_STATE_FAILED')
            self.assertIn('No space left on device', status['state_reason'])
            self.assertIn(str(small), status['state_reason'])
            self.succeed(cluster, neighbour)


if __name__ == '__main__':
    unittest.main()
