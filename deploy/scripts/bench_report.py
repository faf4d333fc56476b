"""The output contract of every benchmark: a table for people, one JSON object with --json."""
import json
import platform


def machine():
    model = ''
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
                break
    cores = sum(1 for line in open('/proc/cpuinfo', encoding='utf-8') if line.startswith('processor'))
    return f'{model}, {cores} cores, {platform.system()} {platform.release()}'


def report(bench, rows, as_json):
    """rows: dicts with case, figure, unit, value and perhaps peer, peer_value, ratio."""
    if as_json:
        print(json.dumps({'bench': bench, 'machine': machine(), 'rows': rows}))
        return
    print(f'{bench} on {machine()}')
    for row in rows:
        line = f'  {row["case"]:<34}{row["figure"]:<34}{row["value"]:>12.3f} {row["unit"]}'
        if 'peer' in row:
            line += f'   {row["peer"]} {row["peer_value"]:.3f} ({row["ratio"]:.2f}x)'
        print(line)
