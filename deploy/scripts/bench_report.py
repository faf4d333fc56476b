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


def spread(row, key):
    return f' ±{50 * row[key]:.0f}%' if key in row else ''


def report(bench, rows, as_json):
    """rows: dicts with case, figure, unit, value and perhaps spread, peer, peer_value, peer_spread, ratio. A spread is
    (largest - smallest) / median of the rounds that the value is the median of."""
    if as_json:
        print(json.dumps({'bench': bench, 'machine': machine(), 'rows': rows}))
        return
    print(f'{bench} on {machine()}')
    case_width, figure_width = (max(34, 2 + max(len(row[key]) for row in rows)) for key in ('case', 'figure'))
    for row in rows:
        line = f'  {row["case"]:<{case_width}}{row["figure"]:<{figure_width}}{row["value"]:>12.3f} {row["unit"]}{spread(row, "spread")}'
        if 'peer' in row:
            line += f'   {row["peer"]} {row["peer_value"]:.3f}{spread(row, "peer_spread")} ({row["ratio"]:.2f}x)'
        print(line)
