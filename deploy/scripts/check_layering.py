#!/usr/bin/env python3
"""Checks the include rules of docs/architecture.md over all sources; prints every breach."""
import pathlib
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)
TORCH = re.compile(r'^(ATen|torch|c10)/|^services/model/tensor\.h$')
PROTO = re.compile(r'\.pb\.h$|^grpcpp/')
UMBRELLA = {'torch/torch.h', 'torch/all.h', 'torch/extension.h', 'ATen/ATen.h'}
DAEMONS = ('services/coordinator/', 'rollout_worker/', 'trainer/', 'reward_server/')
# Engine folders of the services tree: neither gRPC nor protobuf.
ENGINE = ('services/base/', 'services/model/')


def includes(path, cache={}):
    """Direct includes of a project file."""
    if path not in cache:
        cache[path] = INCLUDE.findall(pathlib.Path(path).read_text(errors='replace'))
    return cache[path]


def reachable(path):
    """All includes of a file, through project headers."""
    seen, todo = set(), [path]
    while todo:
        for name in includes(todo.pop()):
            if name not in seen:
                seen.add(name)
                if pathlib.Path(name).is_file():
                    todo.append(name)
    return seen


def main():
    files = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard', '--', '*.h', '*.cc', '*.cu', '*.cuh'],
        capture_output=True, text=True, check=True).stdout.split()
    problems = []
    for path in files:
        if not pathlib.Path(path).is_file():
            continue
        direct = includes(path)
        for name in direct:
            if name in UMBRELLA:
                problems.append(f'{path}: includes the umbrella header {name}')
        every = reachable(path)
        if any(map(TORCH.search, every)) and any(map(PROTO.search, every)):
            problems.append(f'{path}: sees both torch and protobuf')
        if path.endswith(('.cu', '.cuh')) and any(map(TORCH.search, every)):
            problems.append(f'{path}: a kernel sees torch')
        for daemon in DAEMONS:
            if path.startswith(daemon):
                for other in DAEMONS:
                    if other != daemon and any(name.startswith(other) for name in direct):
                        problems.append(f'{path}: a daemon includes {other}')
        if path.startswith('services/coordinator/') or path.startswith('services/cli/'):
            if any(map(TORCH.search, every)):
                problems.append(f'{path}: the control plane sees torch')
        if path.startswith(ENGINE) and any(map(PROTO.search, every)):
            problems.append(f'{path}: the engine half sees gRPC or protobuf')
        if path.startswith('services/base/'):
            for name in direct:
                if '/' in name and not name.startswith(('services/base/', 'absl/')) and \
                        pathlib.Path(name).is_file():
                    problems.append(f'{path}: base depends on {name}')
    for problem in sorted(set(problems)):
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
