"""Results as tables in Markdown."""

import statistics

import idle

ORDER = ("limit", "parvis", "nginx", "varnish", "haproxy", "squid", "trafficserver")
NAMES = {"limit": "epoll limit", "parvis": "**Parvis**", "nginx": "nginx", "varnish": "Varnish", "haproxy": "HAProxy", "squid": "Squid",
         "trafficserver": "Traffic Server"}
HIT_PARTS = ("plain", "page", "zipf")


def spread(values, digits):
    """The median, and the least and the largest."""
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else middle


def ratios(part, column, server, figure):
    """Of each round: the server's figure over the limit's of the same round."""
    found = part[column]
    own, limits = found["servers"].get(server, []), part[found["limit_of"]]["servers"]["limit"]
    return [a[figure] / b[figure] for a, b in zip(own, limits) if b[figure]]


def table(headings, rows):
    """A table in Markdown."""
    lines = ["| " + " | ".join(headings) + " |", "| --- " + "| ---: " * (len(headings) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def hit_columns(results):
    """Pairs of part and column for all that was measured of hits, in their order."""
    return [(results["parts"][part], column) for part in HIT_PARTS if part in results["parts"] for column in results["parts"][part]]


def hit_table(results, cell):
    columns = hit_columns(results)
    rows = [[NAMES[server], *(cell(part, column, server) or "-" for part, column in columns)] for server in ORDER]
    return table(["", *(column for _, column in columns)], rows)


def cpu_cell(part, column, server):
    own = part[column]["servers"].get(server, [])
    if server == "limit":
        return f"{statistics.median(run['cpu_us'] for run in own):.2f} us" if own else ""
    found = ratios(part, column, server, "cpu_us")
    return spread(found, 2) if found else ""


def rate_cell(part, column, server):
    own = part[column]["servers"].get(server, [])
    return f"{statistics.median(run['rps'] for run in own):,.0f}" if own else ""


def memory_cell(part, column, server):
    own = part[column]["servers"].get(server, [])
    return f"{statistics.median(run['resident_mib'] for run in own):,.0f}" if own else ""


def bytes_cell(part, column, server):
    own = part[column]["servers"].get(server, [])
    return f"{statistics.median(run['bytes'] for run in own):,.0f}" if own else ""


def latency_tables(part):
    """Times at the fixed rates."""
    text = []
    for column, found in part.items():
        rows = []
        for server in ORDER:
            runs = found["servers"].get(server)
            if runs:
                times = [spread([run[figure] for run in runs], 0) for figure in ("p50_us", "p99_us", "p999_us")]
                rows.append([NAMES[server], f"{statistics.median(run['rate'] for run in runs):,.0f}", *times])
        text.append(f"**{column[0].upper() + column[1:]}**, microseconds\n\n" + table(["", "requests/s", "p50", "p99", "p99.9"], rows))
    return "\n".join(text)


def idle_table(part):
    """What an idle connection takes."""
    def cell(column, server):
        runs = part[column]["servers"].get(server)
        return f"{runs[0]['bytes'] / 1024:.1f}" if runs else "-"

    return table(["", *part], [[NAMES[server], *(cell(column, server) for column in part)] for server in ORDER])


def pass_tables(part):
    """What a proxy adds to the time of its origin, by the medians of each round."""
    text = []
    for column, found in part.items():
        direct = found["servers"]["direct"]
        rows = []
        for server, runs in found["servers"].items():
            row = [NAMES.get(server, server)]
            for figure in ("p50_us", "p99_us"):
                row.append(spread([run[figure] for run in runs], 0))
                row.append("" if runs is direct else spread([a[figure] - b[figure] for a, b in zip(runs, direct)], 0))
            rows.append(row)
        text.append(f"**{column}**, microseconds\n\n" + table(["", "p50", "added", "p99", "added"], rows))
    return "\n".join(text)


def conditions(measured):
    """How a part was measured."""
    part, options = measured
    if part == "idle":
        return f"- idle: growth by {idle.CONNECTIONS:,} connections of one response each"
    logs = "on" if options["log"] else "off"
    return f"- {part}: {options['rounds']} rounds of {options['seconds']} s, {options['connections']} connections, access logs {logs}"


def markdown(results):
    """All tables."""
    parts = results["parts"]
    text = [f"{results['machine']}. Medians of all rounds (least-largest).\n", "\n".join(map(conditions, results["measured"].items())) + "\n"]
    if hit_columns(results):
        text += ["### CPU time of a hit, as a multiple of the limit's\n", hit_table(results, cpu_cell),
                 "### Hits per second on one core\n", hit_table(results, rate_cell),
                 "### Bytes of a response as sent\n", hit_table(results, bytes_cell),
                 "### Resident memory, MiB\n", hit_table(results, memory_cell)]
    if "latency" in parts:
        text += ["### Time of a hit of the page at a fixed rate\n", latency_tables(parts["latency"])]
    if "idle" in parts:
        text += ["### Memory of an idle connection, KiB\n", idle_table(parts["idle"])]
    if "pass" in parts:
        text += ["### Time of a pass\n", pass_tables(parts["pass"])]
    text += ["### Versions\n", "\n".join(f"- {line}" for line in results["versions"].values() if line) + "\n"]
    return "\n".join(text)
