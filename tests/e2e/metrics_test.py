"""Every process serves metrics that a real Prometheus server scrapes and promtool accepts."""
import json
import shutil
import socket
import subprocess
import time
import unittest
import urllib.request

from e2e import RECIPES, EndToEndTest


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


@unittest.skipUnless(shutil.which('prometheus') and shutil.which('promtool'), 'no prometheus')
class Metrics(EndToEndTest):

    def test_prometheus_scrapes_every_role(self):
        cluster = self.cluster()
        self.make_model(cluster)
        with cluster:
            job = cluster.submit(RECIPES / 'grpo.yaml', model__path=self.model,
                                 run__output_dir=self.work / 'runs', train__total_steps=4, optimizer__warmup_steps=0,
                                 train__prompts_per_step=4)
            self.succeed(cluster, job)
            targets = {p['name']: p['metrics_address'] for p in cluster.processes()}
            self.assertEqual(len(targets), 6, targets)
            for name, address in targets.items():
                with urllib.request.urlopen(f'http://{address}/metrics', timeout=10) as answer:
                    text = answer.read()
                checked = subprocess.run(['promtool', 'check', 'metrics'], input=text,
                                         capture_output=True, check=False, timeout=30)
                self.assertEqual(checked.returncode, 0,
                                 f'{name}: {checked.stdout.decode()}{checked.stderr.decode()}')
                self.assertIn(b'# TYPE rollcall_', text, name)
                self.assertIn(b'_bucket{', text, name)

            port = free_port()
            config = self.work / 'prometheus.yml'
            config.write_text(json.dumps({  # JSON is YAML
                'global': {'scrape_interval': '1s', 'scrape_timeout': '1s'},
                'scrape_configs': [{'job_name': 'rollcall',
                                    'static_configs': [{'targets': sorted(targets.values())}]}],
            }))
            server = subprocess.Popen(
                ['prometheus', f'--config.file={config}', f'--storage.tsdb.path={self.work}/tsdb',
                 f'--web.listen-address=127.0.0.1:{port}', '--log.level=error'],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self.assertEqual(self.wait_for_targets(port, len(targets)), len(targets))
            finally:
                server.terminate()
                server.wait(20)

    def wait_for_targets(self, port, wanted):
        """Number of targets that were scraped with success, waiting for all of them."""
        up = 0
        deadline = time.monotonic() + 60
        while up < wanted and time.monotonic() < deadline:
            try:
                url = f'http://127.0.0.1:{port}/api/v1/query?query=sum(up)'
                with urllib.request.urlopen(url, timeout=5) as answer:
                    result = json.load(answer)['data']['result']
                up = int(float(result[0]['value'][1])) if result else 0
            except OSError:
                pass
            time.sleep(0.3)
        return up


if __name__ == '__main__':
    unittest.main()
