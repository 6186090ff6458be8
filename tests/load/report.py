"""The report: one HTML file with charts, which needs nothing from elsewhere."""

import re
from html import escape

import chart
import figures
import table

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto; padding: 0 1rem; max-width: 76rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; } h3 { margin: 1.5rem 0 .25rem; }
p, small { color: var(--soft); overflow-wrap: anywhere; } .note { color: #b35900; font-weight: 600; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; vertical-align: bottom; } td { white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .8rem; color: var(--soft); } .legend i { display: inline-block; width: 1rem; height: .2rem; margin-right: .35rem; vertical-align: middle; background: currentColor; }
text { font: 11px system-ui, sans-serif; fill: var(--soft); } .grid { stroke: var(--line); stroke-width: .6; } .mark { stroke: var(--soft); stroke-dasharray: 3 3; stroke-width: .6; } text.mark { stroke: none; }
.line { fill: none; stroke: currentColor; stroke-width: 1.6; }
.s0 { color: #0969da; } .s1 { color: #bf3989; } .s2 { color: #1a7f37; } .s3 { color: #bc4c00; } .s4 { color: #8250df; } .s5 { color: #9a6700; } .s6 { color: #57606a; } .s7 { color: #cf222e; }
"""
GROUPS = ("hit", "miss", "private", "checkout", "file", "bot")
LIMIT, QUEUED, IN_USE = "parvis_admission_limit", "parvis_admission_waiting", "parvis_origin_in_use"


def marks(run):
    return [(figures.begins(run, phase["name"]), phase["name"]) for phase in run["plan"]["phases"]]


def over_time(run, group, which):
    """A column of a group's rows, which are [answers, p50, p95, p99]; times in milliseconds."""
    scale = 1 if which == 0 else 1000
    return [(second, row["groups"][group][which] / scale if group in row["groups"] else None) for second, row in enumerate(run["seconds"])]


def gauge(run, metric):
    return [(row["t"], row.get("metrics", {}).get(metric)) for row in run["watch"]]


def watched(run, part, field):
    return [(row["t"], (row[part] or {}).get(field)) for row in run["watch"]]


def labelled(run, metric):
    """A metric's series by the value of its one label."""
    names = sorted({name for row in run["watch"] for name in row.get("metrics", {}) if name.startswith(metric + "{")})
    return [(re.search(r'"([^"]*)"', name)[1], gauge(run, name)) for name in names]


def charts_of(run):
    """All charts of one server."""
    at, length = marks(run), sum(planned["seconds"] for planned in run["plan"]["phases"])
    kinds = sorted({what for row in run["seconds"] for what in row["errors"]})
    errors = [(what, [(second, row["errors"].get(what, 0)) for second, row in enumerate(run["seconds"])]) for what in kinds]
    useful = [(second, row["php_ms"] / 1000) for second, row in enumerate(run["seconds"])]
    php = [("children at work", watched(run, "php", "active")), ("wait at PHP-FPM", watched(run, "php", "queue")),
           ("useful work", useful), ("limit", gauge(run, LIMIT)), ("sent to PHP", gauge(run, IN_USE))]
    queue = labelled(run, QUEUED) or [("all", gauge(run, "parvis_origin_queued"))]
    cpu = [(part, watched(run, "cpu", part)) for part in ("server", "php", "redis", "generator")]
    latency = [(f"{group} p95", over_time(run, group, 2)) for group in GROUPS] + [("hit p99", over_time(run, "hit", 3))]
    made = [
        chart.lines("throughput", "Answers", "per second", [(group, over_time(run, group, 0)) for group in GROUPS], at, length),
        chart.lines("latency", "Latency", "ms, of each second", latency, at, length, log=True),
        chart.lines("errors", "Errors", "per second", errors, at, length),
        chart.lines("php", "PHP in use", "children, requests", php, at, length),
    ]
    if any(points and any(value is not None for _, value in points) for _, points in queue):
        made.append(chart.lines("queue", "Queue in Parvis by class", "requests", queue, at, length))
    return [*made, chart.lines("cpu", "CPU", "cores", cpu, at, length)]


def compared(name, runs):
    """Charts with all servers in one."""
    chosen = {server: run for server, run in runs.items() if ":" not in server}
    last = next(iter(runs.values()))
    at = marks(last)

    def each(column):
        return [(table.name_of(server), column(run)) for server, run in chosen.items()]

    percents = ("p50", "p75", "p90", "p95", "p99", "p99.9")
    length = sum(planned["seconds"] for planned in last["plan"]["phases"])

    def spread(run):
        shown = figures.phase_of(run, "overload") or run["phases"][0]
        times = shown["groups"].get("hit")
        return [(place, times["percentiles"][percent] / 1000) for place, percent in enumerate(percents)] if times else []

    return [
        chart.lines("compared-percentiles", "Latency of hits by percentile", "ms", each(spread), log=True, labels=percents),
        chart.lines("compared-checkout", "Checkout p95", "ms", each(lambda run: over_time(run, "checkout", 2)), at, length, log=True),
        chart.lines("compared-useful", "Useful work of PHP", "children", each(lambda run: [(second, row["php_ms"] / 1000) for second, row in enumerate(run["seconds"])]), at, length),
        chart.lines("compared-errors", "Errors", "per second", each(lambda run: [(second, sum(row["errors"].values())) for second, row in enumerate(run["seconds"])]), at, length),
    ]


def as_html(markdown):
    """A table of Markdown as HTML."""
    lines = [line.strip("| ").split(" | ") for line in markdown.strip().splitlines()]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in lines[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines[2:])
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def html(results):
    parts = ["<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
             f"<title>Load test of Parvis</title><style>{STYLE}</style></head><body><h1>Load test of Parvis</h1>"
             f"<p>{escape(results['machine'])}; {escape('; '.join(results['versions'].values()))}. "
             "Latency counts from when a visitor was to ask. A child's useful work is what reached its visitor in time.</p>"]
    for name, scenario in results["scenarios"].items():
        runs = scenario["runs"]
        note = f'<p class="note">{escape(scenario["note"])}</p>' if scenario.get("note") else ""
        parts.append(f'<section data-scenario="{name}"><h2>{name}</h2><p>{escape(scenario["about"])}. {escape(scenario["when"])}.</p>{note}'
                     + as_html(table.TABLES[name](runs)) + f'<div class="charts">{"".join(compared(name, runs))}</div>')
        for server, run in runs.items():
            parts.append(f'<h3>{escape(table.name_of(server))}</h3><div class="charts" data-server="{server}">{"".join(charts_of(run))}</div>')
        parts.append("</section>")
    return "".join(parts) + "</body></html>\n"
