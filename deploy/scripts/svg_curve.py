"""A line chart as SVG, standard library only; readable on light and dark backgrounds."""
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 800, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 44, 48
COLORS = ('#2f81f7', '#d29922', '#3fb950', '#db61a2')


def line_chart(title, x_label, series):
    """series: list of (name, [(x, y)]) with y in [0, 1]."""
    largest = max((x for _, points in series for x, _ in points), default=1) or 1
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x, y):
        return (LEFT + inner_width * x / largest,
                TOP + inner_height * (1 - min(max(y, 0.0), 1.0)))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           f'width="{WIDTH}" height="{HEIGHT}" font-family="ui-sans-serif, system-ui, sans-serif" '
           'font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#0d1117"/>',
           f'<text x="{LEFT}" y="26" fill="#e6edf3" font-size="15" font-weight="600">'
           f'{escape(title)}</text>']
    for tick in (0, 0.25, 0.5, 0.75, 1.0):
        _, y = place(0, tick)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" '
                   'stroke="#30363d"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" fill="#8b949e" text-anchor="end">'
                   f'{tick:.0%}</text>')
    for part in range(5):
        x, y = place(largest * part / 4, 0)
        out.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" fill="#8b949e" text-anchor="middle">'
                   f'{largest * part / 4:g}</text>')
    out.append(f'<text x="{LEFT + inner_width / 2}" y="{HEIGHT - 8}" fill="#8b949e" '
               f'text-anchor="middle">{escape(x_label)}</text>')
    for index, (name, points) in enumerate(series):
        color = COLORS[index % len(COLORS)]
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in (place(*point) for point in points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" '
                   'stroke-linejoin="round"/>')
        y = TOP + 14 + 22 * index
        out.append(f'<line x1="{WIDTH - RIGHT + 14}" y1="{y - 4}" x2="{WIDTH - RIGHT + 34}" '
                   f'y2="{y - 4}" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 40}" y="{y}" fill="#e6edf3">{escape(name)}</text>')
    out.append('</svg>')
    return '\n'.join(out) + '\n'
