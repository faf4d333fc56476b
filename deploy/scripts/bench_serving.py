"""./dev bench serving: the HTTP endpoint under hundreds of concurrent streams, seen by an outside client.

Load: every stream is a connection that asks for one streamed completion after the other, 16 to 256 prompt tokens and 1 to
256 new ones; one request in fifty is left in its middle. Overload: three times as many, more than the server takes; what is
too much must be refused with 429 or 503, and with Retry-After. Ends with status 1 when something went wrong: a request
failed in any other way, a stream had not the tokens that were asked for, memory grew, or something stayed open."""
import argparse
import array
import asyncio
import collections
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from bench_report import report
from bench_shapes import SHAPES

MODEL = '3M'
REFUSALS = (429, 503)
REQUEST_TIMEOUT_S = 120
START_TIMEOUT_S = 60
END_TIMEOUT_S = 30
# Between the attempts of a client whose connection failed.
RETRY_S = 1.0
# Every so many requests every event is read as JSON; else the client takes more of the machine than the server.
READ_EVERY = 16
LEAVE_EVERY = 50
# More than this from a fifth of the time to its end is growth.
MAX_GROWTH = 1.1
# Less than what three times the streams want of either.
OVERLOAD_SHARE = {'--max-open-samples': 2.0, '--http-max-connections': 2.5}
OPEN_METRICS = ('rollcall_serving_open_samples', 'rollcall_rollout_sequences_running', 'rollcall_rollout_sequences_waiting')


class Figures:
    def __init__(self):
        self.first_token_s, self.between_tokens_s, self.whole_s = (array.array('d') for _ in range(3))
        self.statuses = collections.Counter()
        self.failures = collections.Counter()
        self.completions = collections.Counter()  # by stream
        self.tokens = 0
        self.left = 0


class Failure(Exception):
    """What a server must not do."""


class Stream:
    """One keep-alive connection. HTTP/1.1 as far as this bench needs it."""

    def __init__(self, number, address, figures):
        self.number, self.figures = number, figures
        self.host, self.port = address.rsplit(':', 1)
        self.reader = self.writer = None
        self.num_requests = 0

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def complete(self, request, leave_after):
        """One request, left after so many events if that is a number. Returns how long to wait before the next one."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        body = json.dumps(request).encode()
        self.num_requests += 1
        self.writer.write((f'POST /v1/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n'
                           f'Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n').encode() + body)
        begin = time.monotonic()
        head = (await self.reader.readuntil(b'\r\n\r\n')).decode().split('\r\n')
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(':') for line in head[1:])}
        self.figures.statuses[status] += 1
        if status != 200:
            text = await self.reader.readexactly(int(headers.get('content-length', 0)))
            if headers.get('connection', '').lower() == 'close':
                self.close()
            if status not in REFUSALS:
                raise Failure(f'status {status}: {json.loads(text)["error"]["message"]}')
            if 'retry-after' not in headers:
                raise Failure(f'status {status} without Retry-After')
            return float(headers['retry-after'])
        await self.read_stream(request['max_tokens'], begin, leave_after)
        return 0.0

    async def read_stream(self, max_tokens, begin, leave_after):
        figures, last, tokens, is_ended, num_pieces = self.figures, None, None, False, 0
        reads_all = self.num_requests % READ_EVERY == 0
        async for event in self.events():
            if event == b'[DONE]':
                is_ended = True
                continue
            is_piece = b'"choices":[{' in event
            if reads_all or not is_piece:
                answer = json.loads(event)
                if 'error' in answer:
                    raise Failure(f'error in a stream: {answer["error"]["message"]}')
                if is_piece != bool(answer['choices']):
                    raise Failure('an event is not as OpenAI writes it')
                if answer.get('usage'):
                    tokens = answer['usage']['completion_tokens']
            if not is_piece:
                continue
            num_pieces += 1
            now = time.monotonic()
            if last is None:
                figures.first_token_s.append(now - begin)
            else:
                figures.between_tokens_s.append(now - last)
            last = now
            if num_pieces == leave_after:
                figures.left += 1
                return self.close()
        if not is_ended or tokens != max_tokens:
            raise Failure('a stream without its end' if not is_ended else f'{tokens} tokens for {max_tokens}')
        figures.whole_s.append(time.monotonic() - begin)
        figures.completions[self.number] += 1
        figures.tokens += tokens

    async def events(self):
        """Data of server-sent events from a chunked body."""
        buffer = b''
        while True:
            size = int(await self.reader.readline(), 16)
            buffer += (await self.reader.readexactly(size + 2))[:-2]
            while (end := buffer.find(b'\n\n')) >= 0:
                event, buffer = buffer[:end], buffer[end + 2:]
                if event.startswith(b'data: '):
                    yield event[6:]
            if size == 0:
                return


async def client(number, address, deadline, figures):
    rng = random.Random(number)
    stream = Stream(number, address, figures)
    vocab_size = SHAPES[MODEL]['vocab-size']
    # Not all in the same instant.
    await asyncio.sleep(rng.uniform(0, 2))
    while time.monotonic() < deadline:
        request = {'prompt': [rng.randrange(vocab_size) for _ in range(rng.randint(16, 256))], 'max_tokens': rng.randint(1, 256),
                   'temperature': 1.0, 'ignore_eos': True, 'stream': True, 'stream_options': {'include_usage': True},
                   'seed': rng.randrange(1 << 31)}
        leave_after = rng.randint(1, request['max_tokens']) if rng.randrange(LEAVE_EVERY) == 0 else None
        try:
            pause = await asyncio.wait_for(stream.complete(request, leave_after), REQUEST_TIMEOUT_S)
        except (OSError, EOFError, ValueError, LookupError, Failure, asyncio.TimeoutError) as error:
            figures.failures[str(error) if isinstance(error, Failure) else f'{type(error).__name__} {error}'.strip()] += 1
            stream.close()
            pause = RETRY_S
        if pause > 0:
            await asyncio.sleep(pause * rng.uniform(0.8, 1.2))
    stream.close()


class Server:
    """`rollcall-rollout` by itself, with a model from a directory."""

    def __init__(self, bin_dir, work, flags):
        shape = [f'--{key}={value}' for key, value in SHAPES[MODEL].items()]
        subprocess.run([f'{bin_dir}/rollcall', 'init-model', f'{work}/{MODEL}', *shape, '--tie', '--seed=1', '--max-positions=1024'],
                       check=True, stdout=subprocess.DEVNULL)
        ready = pathlib.Path(work) / 'ready.json'
        self.process = subprocess.Popen([f'{bin_dir}/rollcall-rollout', '--model', f'{work}/{MODEL}', '--http', '127.0.0.1:0',
                                         '--ready-file', ready, '--exit-with-parent', *flags])
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if self.process.poll() is not None:
                sys.exit(f'the server ended with status {self.process.returncode}')
            if time.monotonic() > deadline:
                self.stop()
                sys.exit(f'the server was not ready within {START_TIMEOUT_S} s')
            time.sleep(0.02)
        self.address = json.loads(ready.read_text(encoding='utf-8'))['http_address']

    def resident_mib(self):
        for line in pathlib.Path(f'/proc/{self.process.pid}/status').read_text(encoding='utf-8').splitlines():
            if line.startswith('VmRSS:'):
                return int(line.split()[1]) / 1024
        return 0.0

    def cpu_seconds(self):
        fields = pathlib.Path(f'/proc/{self.process.pid}/stat').read_text(encoding='utf-8').rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def num_open(self):
        """Samples and sequences that the server still has."""
        with urllib.request.urlopen(f'http://{self.address}/metrics', timeout=END_TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(' ', 1)[1]) for line in lines if line.split('{')[0].split(' ')[0] in OPEN_METRICS)

    def wait_until_idle(self):
        deadline = time.monotonic() + END_TIMEOUT_S
        while (left := self.num_open()) > 0 and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


async def load(streams, seconds, server):
    figures, memory = Figures(), [server.resident_mib()]

    async def watch_memory():
        while True:
            await asyncio.sleep(seconds / 100)
            memory.append(server.resident_mib())

    watcher = asyncio.create_task(watch_memory())
    begin = time.monotonic()
    await asyncio.gather(*(client(number, server.address, begin + seconds, figures) for number in range(streams)))
    watcher.cancel()
    return figures, memory, time.monotonic() - begin


def percentile(values, share):
    return values[int(share * (len(values) - 1))] if values else 0.0


def run_case(name, streams, seconds, server):
    """Rows of the report, and what went wrong."""
    server_cpu, client_cpu = server.cpu_seconds(), resource.getrusage(resource.RUSAGE_SELF)
    figures, memory, wall = asyncio.run(load(streams, seconds, server))
    server_cpu, client_cpu = server.cpu_seconds() - server_cpu, [
        getattr(resource.getrusage(resource.RUSAGE_SELF), key) - getattr(client_cpu, key) for key in ('ru_utime', 'ru_stime')]
    left_open = server.wait_until_idle()
    rows = []

    def add(figure, unit, value):
        rows.append({'case': f'{name}: {streams} streams, {seconds:.0f} s', 'figure': figure, 'unit': unit, 'value': round(value, 3)})

    add('throughput', 'tok/s', figures.tokens / wall)
    add('completions', '', len(figures.whole_s))
    for label, values in (('first token', figures.first_token_s), ('between tokens', figures.between_tokens_s),
                          ('whole completion', figures.whole_s)):
        ordered = sorted(values)
        for share, at in ((0.5, 'p50'), (0.99, 'p99'), (1, 'largest')):
            add(f'{label}, {at}', 'ms', 1e3 * percentile(ordered, share))
    by_stream = [figures.completions[number] for number in range(streams)]
    add('completions of a stream, fewest', '', min(by_stream))
    add('completions of a stream, most', '', max(by_stream))
    for status in REFUSALS:
        add(f'refused with {status}', '', figures.statuses[status])
    add('left by the client', '', figures.left)
    add('failed otherwise', '', sum(figures.failures.values()))
    fifth = memory[len(memory) // 5]
    add('resident memory before', 'MiB', memory[0])
    add('resident memory after a fifth', 'MiB', fifth)
    add('resident memory, largest', 'MiB', max(memory))
    add('resident memory at the end', 'MiB', memory[-1])
    add('processor time of the server', 's', server_cpu)
    add('processor time of the client', 's', sum(client_cpu))
    add('open afterwards', '', left_open)

    problems = [f'{count} times {failure}' for failure, count in figures.failures.most_common(5)]
    if left_open > 0:
        problems.append(f'{left_open:.0f} samples stayed open')
    if memory[-1] > MAX_GROWTH * fifth:
        problems.append(f'memory grew from {fifth:.0f} to {memory[-1]:.0f} MiB')
    if not figures.whole_s:
        problems.append('nothing was completed')
    if name == 'overload' and any(figures.statuses[status] == 0 for status in REFUSALS):
        problems.append(f'not refused with each of {REFUSALS}')
    return rows, [f'{name}: {problem}' for problem in problems]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--quick', action='store_true', help='30 s of load, 10 s of overload')
    parser.add_argument('--streams', type=int, default=500)
    parser.add_argument('--seconds', type=float, help='of load; overload takes a fifth of it more')
    parser.add_argument('server_flags', nargs='*', help='after --: more flags for rollcall-rollout')
    options = parser.parse_args()
    seconds = options.seconds or (30 if options.quick else 300)
    flags = [f'{flag}={int(share * options.streams)}' for flag, share in OVERLOAD_SHARE.items()]
    rows, problems = [], []
    with tempfile.TemporaryDirectory(prefix='rollcall-bench-') as work:
        server = Server(options.bin, work, flags + options.server_flags)
        try:
            for name, streams, length in (('load', options.streams, seconds), ('overload', 3 * options.streams, max(10, seconds / 5))):
                more_rows, more_problems = run_case(name, streams, length, server)
                rows += more_rows
                problems += more_problems
        finally:
            code = server.stop()
    if code != 0:
        problems.append(f'the server ended with status {code}')
    report('serving', rows, options.json)
    for problem in problems:
        print(f'problem: {problem}', file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
