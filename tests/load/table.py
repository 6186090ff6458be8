"""Tables of the results in Markdown."""

import figures
import stacks


def number(value, digits=0, unit=""):
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def share(value, digits=2):
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def name_of(server):
    name, _, limit = server.partition(":")
    return stacks.NAMES[name] + (f", limit {limit}" if limit else "")


def rows(head, lines):
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]) + "\n"


def words(errors):
    return ", ".join(f"{count:,} {what}" for what, count in sorted(errors.items(), key=lambda error: -error[1])[:4]) or "none"


def sale(runs):
    lines = []
    for server, run in runs.items():
        phase = run["phases"][0]
        failed = sum(figures.errors_of(phase).values())
        count = figures.answered(phase)
        seconds = figures.measured_seconds(run, phase["name"])
        cpu = figures.mean_cpu(run, phase["name"])
        lines.append([
            name_of(server), number(count / seconds), share(failed / max(1, count + failed), 4), words(figures.errors_of(phase)),
            number(figures.percentile(phase, "hit", "p50"), 1), number(figures.percentile(phase, "hit", "p99"), 1),
            number(figures.percentile(phase, "hit", "p99.9"), 1), number(figures.percentile(phase, "private", "p95")),
            number(figures.percentile(phase, "checkout", "p95")), share(figures.uncacheable(phase), 1),
            number(cpu.get("server"), 2), number(cpu.get("php"), 2),
        ])
    head = ["server", "answers/s", "errors", "of these", "hit p50 ms", "hit p99 ms", "hit p99.9 ms", "cart, account p95 ms", "checkout p95 ms",
            "uncacheable", "server's cores", "PHP's cores"]
    return rows(head, lines)


def overload(runs):
    lines = []
    for server, run in runs.items():
        usual, over = figures.phase_of(run, "unloaded"), figures.phase_of(run, "overload")
        before, now = figures.percentile(usual, "checkout", "p95"), figures.percentile(over, "checkout", "p95")
        peak = max(figures.goodput(run, name) for name in ("full", "overload"))
        private = figures.percentile(usual, "private", "p95") or 0
        recovered = figures.recovery(run, "after", max(private, before or 0))
        lines.append([
            name_of(server), share(figures.success(over, figures.CHECKOUT_KINDS)), number(before), number(now),
            number(now / before if now and before else None, 2), number(figures.percentile(over, "hit", "p99"), 1),
            share(figures.success(over, ("add", "section", "cart", "totals"))), share(figures.success(over, None)),
            number(figures.goodput(run, "full"), 2), number(figures.goodput(run, "overload"), 2),
            share(figures.goodput(run, "overload") / peak if peak else None, 0), "never" if recovered is None else f"{recovered} s",
        ])
    head = ["server", "checkout came", "checkout p95 unloaded ms", "overloaded ms", "times", "hit p99 ms", "cart came", "all came",
            "children's useful work, full", "overloaded", "of its peak", "well again after"]
    return rows(head, lines)


def slow(runs):
    fixed = {server: run for server, run in runs.items() if ":" in server}
    best = {name: max((figures.goodput(run, name) for run in fixed.values()), default=None) for name in ("normal", "slow", "back")}
    lines = []
    for server, run in runs.items():
        cells = [name_of(server)]
        for name in best:
            useful = figures.goodput(run, name)
            cells += [number(useful, 2), share(useful / best[name] if best[name] else None, 0)]
        cells += [number(figures.limit_follows(run, name), 1, " s") for name in ("slow", "back")]
        lines.append([*cells, share(figures.success(figures.phase_of(run, "slow"), None))])
    head = ["server", "useful work", "of best fixed", "while slow", "of best fixed", "back", "of best fixed", "limit follows slow", "limit follows back", "came while slow"]
    return rows(head, lines)


def bots(runs):
    lines = []
    people = (*figures.CACHEABLE, *figures.CHECKOUT_KINDS, "section", "add", "cart", "totals", "login", "account", "orders")
    for server, run in runs.items():
        for phase in run["phases"]:
            lines.append([
                name_of(server), phase["name"], share(figures.success(phase, people), 3), number(figures.percentile(phase, "hit", "p99"), 1),
                number(figures.percentile(phase, "private", "p95")), number(figures.percentile(phase, "checkout", "p95")),
                share(figures.success(phase, ("goodbot",))), share(figures.success(phase, ("facet", "crawler"))), share(figures.success(phase, ("abuse",))),
                number(figures.goodput(run, phase["name"]), 2), share(figures.php_for_bots(phase)),
            ])
    head = ["server", "phase", "visitors' requests came", "hit p99 ms", "cart, account p95 ms", "checkout p95 ms", "search engine's came", "facet crawler's", "abuser's",
            "children's useful work", "of it for bots"]
    return rows(head, lines)


TABLES = {"sale": sale, "overload": overload, "slow": slow, "bots": bots}


def markdown(results):
    """All tables, each with what was run."""
    parts = [f"Measured on {results['machine']}; " + "; ".join(results["versions"].values()) + ".\n"]
    for name, scenario in results["scenarios"].items():
        noted = f" **{scenario['note']}**" if scenario.get("note") else ""
        parts.append(f"### {name}\n\n{scenario['about']}. {scenario['when']}.{noted}\n\n{TABLES[name](scenario['runs'])}")
    return "\n".join(parts)
