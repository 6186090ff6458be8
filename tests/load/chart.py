"""Charts of lines over time as SVG, which read on light and on dark pages."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 240, 52, 12, 12, 26
POINTS_MAX = 600
TICKS = 5


def ticks(largest):
    """Round numbers from 0 to at least the largest."""
    step = 10 ** math.floor(math.log10(largest / TICKS)) if largest > 0 else 1
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if step * factor * TICKS >= largest)
    return [step * number for number in range(TICKS + 1)]


def powers(least, largest):
    """Powers of ten around both."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(largest))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def short(value):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def lines(kind, title, unit, series, marks=(), length=None, log=False, labels=None):
    """A figure: `series` has (name, [(seconds, value)]), `marks` (seconds, name) of phases, `length` seconds of the run; with
    `labels` there are places that are called so in place of seconds. Empty series are left out."""
    series = [(name, [(x, y) for x, y in points if y is not None and (y > 0 or not log)]) for name, points in series]
    series = [(name, points) for name, points in series if points]
    values = [y for _, points in series for _, y in points]
    longest = max([length or 1, *(x for _, points in series for x, _ in points)])
    scale = powers(min(values), max(values)) if log and values else ticks(max(values, default=1))
    span = WIDTH - LEFT - RIGHT
    rise = HEIGHT - TOP - BOTTOM

    def across(x):
        return LEFT + span * x / longest

    def up(y):
        if log:
            part = (math.log10(y) - math.log10(scale[0])) / (math.log10(scale[-1]) - math.log10(scale[0]))
        else:
            part = y / scale[-1]
        return TOP + rise * (1 - part)

    drawn = []
    for value in scale:
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}"/>')
        drawn.append(f'<text class="axis" x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    places = enumerate(labels) if labels else ((second, f"{second:g} s") for second in ticks(longest) if second <= longest)
    for place, name in places:
        anchor = "end" if across(place) > WIDTH - 2 * RIGHT else "middle"
        drawn.append(f'<text class="axis" x="{across(place):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{name}</text>')
    for second, name in marks:
        if second <= longest:
            drawn.append(f'<line class="mark" x1="{across(second):.1f}" x2="{across(second):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            drawn.append(f'<text class="mark" x="{across(second) + 4:.1f}" y="{TOP + 10}">{escape(name)}</text>')
    for number, (name, points) in enumerate(series):
        every = math.ceil(len(points) / POINTS_MAX)
        path = " ".join(f"{'L' if at else 'M'}{across(x):.1f} {up(y):.1f}" for at, (x, y) in enumerate(points[::every]))
        drawn.append(f'<path class="line s{number % 8}" d="{path}"><title>{escape(name)}</title></path>')
    legend = "".join(f'<span><i class="s{number % 8}"></i>{escape(name)}</span>' for number, (name, _) in enumerate(series))
    return (
        f'<figure class="chart" data-chart="{kind}"><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        f'<div class="legend">{legend or "nothing"}</div></figure>'
    )
