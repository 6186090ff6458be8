"""The chart: CPU time of a hit in multiples of the limit, as an SVG that reads on light and on dark pages."""

import statistics
from xml.sax.saxutils import escape

import report

WIDTH, LEFT, RIGHT = 860, 130, 60
BAR, GAP, TITLE, TOP, BOTTOM = 15, 3, 30, 56, 30
# Longer bars are cut, or the slowest would leave no room to tell the others apart.
MULTIPLE_MAX = 7
NAMES = {**report.NAMES, "parvis": "Parvis"}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.column { font-weight: 600; }
.own { font-weight: 600; }
.note, .axis { fill: #57606a; }
.bar { fill: #8c959f; }
.bar.own { fill: #0969da; }
.spread { stroke: #24292f; stroke-width: 1; }
.limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3; }
.cut { stroke: #ffffff; stroke-width: 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note, .axis { fill: #9198a1; }
  .bar { fill: #6e7681; }
  .bar.own { fill: #4493f8; }
  .spread { stroke: #e6edf3; }
  .limit { stroke: #ff7b72; }
  .cut { stroke: #0d1117; }
}
"""


def groups(results):
    """Of each column: its name and (server, ratios), the cheapest first."""
    found = []
    for part, column in report.hit_columns(results):
        bars = [(server, report.ratios(part, column, server, "cpu_us")) for server in report.ORDER if server != "limit"]
        bars = sorted(((server, values) for server, values in bars if values), key=lambda bar: statistics.median(bar[1]))
        found.append((column, bars))
    return found


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bar(server, values, y, scale):
    """A bar with its name, its spread and its figure."""
    kind = "own" if server == "parvis" else ""
    middle, half = statistics.median(values), y + BAR / 2
    least, shown, largest = (LEFT + min(value, MULTIPLE_MAX) * scale for value in (min(values), middle, max(values)))
    drawn = [
        text(LEFT - 8, y + BAR - 3, NAMES[server], kind, "end"),
        f'<rect x="{LEFT}" y="{y}" width="{shown - LEFT:.1f}" height="{BAR}" rx="2" class="bar {kind}"/>',
        line(least, half, largest, half, "spread"),
        text(largest + 6, y + BAR - 3, f"{middle:.2f}", kind),
    ]
    if middle > MULTIPLE_MAX:
        drawn.append(line(shown - 14, y + BAR + 2, shown - 6, y - 2, "cut"))
    return drawn


def svg(results):
    """The whole chart."""
    columns = groups(results)
    largest = min(max((max(values) for _, bars in columns for _, values in bars), default=1), MULTIPLE_MAX)
    scale = (WIDTH - LEFT - RIGHT) / largest
    drawn, y = [], TOP
    for name, bars in columns:
        drawn.append(text(LEFT, y + 19, name, "column"))
        y += TITLE
        top = y - 3
        for server, values in bars:
            drawn += bar(server, values, y, scale)
            y += BAR + GAP
        drawn.append(line(LEFT + scale, top, LEFT + scale, y, "limit"))
    height = y + BOTTOM
    rounds = sorted({results["measured"][part]["rounds"] for part in report.HIT_PARTS if part in results["parts"]})
    head = [
        text(16, 24, "CPU time of a cache hit, in multiples of a bare epoll loop (shorter is better)", "title"),
        text(16, 44, f"{results['machine']}; thin lines: least and largest of {' or '.join(map(str, rounds))} rounds; bars are cut at {MULTIPLE_MAX}", "note"),
    ]
    foot = [text(LEFT + scale, y + 16, "limit = 1", "axis", "middle")]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="CPU time of a cache hit of Parvis and its peers">',
        f"<style>{STYLE}</style>", *head, *drawn, *foot, "</svg>\n",
    ])
