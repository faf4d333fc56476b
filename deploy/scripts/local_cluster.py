"""Drives the `rollcall` program: a local cluster and jobs on it. Used by the demo, the benchmarks
and the end-to-end tests; standard library only."""
import json
import os
import pathlib
import subprocess
import time

TERMINAL_STATES = ('JOB_STATE_SUCCEEDED', 'JOB_STATE_FAILED', 'JOB_STATE_CANCELLED')


class CommandError(RuntimeError):
    """A command that ended with another exit code than 0."""

    def __init__(self, command, code, stdout, stderr):
        super().__init__(f'{" ".join(command)}: exit code {code}\n{stderr.strip()}')
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class LocalCluster:
    """`rollcall up --detach` on entry, `rollcall down` on exit."""

    def __init__(self, bin_dir, state_dir, rollout_workers=2, learners=2, extra=()):
        self.bin_dir = pathlib.Path(bin_dir)
        self.state_dir = pathlib.Path(state_dir)
        self.options = ['--rollout-workers', str(rollout_workers), '--learners', str(learners),
                        '--port', '0', *extra]

    def __enter__(self):
        self.run('up', '--detach', *self.options, timeout=120)
        return self

    def __exit__(self, *_):
        try:
            self.run('down', timeout=60)
        except CommandError as error:
            print(error)

    def run(self, *arguments, timeout=60):
        """Runs one command; its standard output."""
        command = [str(self.bin_dir / 'rollcall'), '--state-dir', str(self.state_dir),
                   *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise CommandError(command, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments, timeout=60):
        return json.loads(self.run('--json', *arguments, timeout=timeout))

    def submit(self, job_file, **settings):
        """Submits a job; keys of `settings` use double underscores for dots. Returns the job id."""
        sets = []
        for key, value in settings.items():
            sets += ['--set', f'{key.replace("__", ".")}={value}']
        return self.json('submit', job_file, *sets)['job_id']

    def status(self, job_id):
        return self.json('status', job_id)

    def wait(self, job_id, timeout, each=None):
        """Waits for the end of a job; its last status. `each` sees every status on the way."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(job_id)
            if each:
                each(status)
            if status['state'] in TERMINAL_STATES:
                return status
            if time.monotonic() > deadline:
                raise TimeoutError(f'{job_id} has not ended after {timeout} s: {status}')
            time.sleep(0.1)

    def processes(self):
        """Entries of cluster.json: name, role, pid, address, metrics_address."""
        return json.loads((self.state_dir / 'cluster.json').read_text())['processes']

    def pid(self, name):
        for process in self.processes():
            if process['name'] == name:
                return process['pid']
        raise KeyError(name)

    def kill(self, name, signal_number):
        os.kill(self.pid(name), signal_number)


def evaluations(status):
    """Accuracy by policy version."""
    return {int(e.get('policy_version', 0)): e.get('accuracy', 0.0)
            for e in status.get('evaluations', [])}
