"""The demo as a newcomer runs it: held-out accuracy rises, and everything promised is there."""
import json
import pathlib
import subprocess
import sys
import unittest

from e2e import BIN, ROOT, EndToEndTest


class Learning(EndToEndTest):

    def test_the_demo_learns(self):
        result_file = self.work / 'result.json'
        done = subprocess.run(
            [sys.executable, str(ROOT / 'deploy/scripts/demo.py'), '--bin', str(BIN), '--dir',
             str(self.work / 'demo'), '--json', str(result_file)],
            capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result = json.loads(result_file.read_text())
        self.assertLessEqual(result['accuracy_before'], 0.40)
        self.assertGreaterEqual(result['accuracy_after'], 0.85)
        self.assertLessEqual(result['seconds'], 300)
        run_dir = pathlib.Path(result['run_dir'])
        for name in ('config.json', 'tokenizer.json', 'model.safetensors'):
            self.assertTrue((run_dir / 'final' / name).is_file(), name)
        self.assertTrue((run_dir / 'metrics.jsonl').is_file())
        trace = json.loads((run_dir / 'trace.json').read_text())
        spans = {event['name'] for event in (trace['traceEvents'] if isinstance(trace, dict) else trace)
                 if event.get('ph') == 'X'}
        for stage in ('sample', 'score', 'update'):
            self.assertIn(stage, spans)


if __name__ == '__main__':
    unittest.main()
