"""What the end-to-end tests share: real binaries on loopback, each test in its own directory."""
import hashlib
import json
import os
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'deploy' / 'scripts'))

from demo import MODEL as DEMO_MODEL  # noqa: E402,F401
from local_cluster import CommandError, LocalCluster, evaluations  # noqa: E402,F401

BIN = pathlib.Path(os.environ.get('ROLLCALL_BUILD_DIR', ROOT / 'build' / 'release')) / 'bin'
RECIPES = ROOT / 'deploy' / 'recipes'
# Small enough that a step takes well under a second on one core.
TINY = ['--hidden-size', '64', '--layers', '2', '--heads', '4', '--kv-heads', '2',
        '--intermediate-size', '128', '--max-positions', '64', '--tie', '--seed', '3']


class EndToEndTest(unittest.TestCase):
    """Gives each test self.work, a directory of its own, and a tiny model in self.work/model."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix='rollcall-e2e-', ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        self.work = pathlib.Path(temporary.name)
        self.model = self.work / 'model'

    def cluster(self, name='state', **options):
        return LocalCluster(BIN, self.work / name, **options)

    def make_model(self, cluster):
        cluster.run('init-model', self.model, *TINY)

    def succeed(self, cluster, job_id, timeout=120, each=None):
        status = cluster.wait(job_id, timeout, each)
        self.assertEqual(status['state'], 'JOB_STATE_SUCCEEDED', status.get('state_reason'))
        return status


def final_hash(status):
    """SHA-256 of the final weights of a job."""
    file = pathlib.Path(status['run_dir']) / 'final' / 'model.safetensors'
    return hashlib.sha256(file.read_bytes()).hexdigest()


def metrics_lines(status):
    with open(pathlib.Path(status['run_dir']) / 'metrics.jsonl', encoding='utf-8') as file:
        return [json.loads(line) for line in file]
