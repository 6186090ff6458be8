"""The parts of a run that measure hits. Each gives {column: {server: [a round's figures, ...]}}."""

import gzip
import shutil
import ssl
import statistics
import time
import urllib.request
from dataclasses import dataclass

import content
import load
import servers
from bench import PROGRAMS, Bench

STORE_MIB = 512
ZIPF_STORE_MIB = 2048
FILL_CONNECTIONS = 16
FILL_PASSES = 3
# What the origin may use while all is answered from a cache: health probes, and what the kernel's ticks round up.
ORIGIN_SECONDS_MAX = 0.03
LATENCY_LOAD = 0.5
SATURATION_ROUNDS = 2


@dataclass
class Column:
    """What is asked of each server that has the ability: `generate(server)` gives the figures of one round.
    The limit is an HTTP/1.1 server alone: a column that it has not is compared with its figures in `limit_of`."""

    name: str
    ability: str
    generate: object
    limit_of: str = ""


def say(text):
    print(text, flush=True)


def rounds(run, columns, started, count=None):
    """Measures all columns of all servers, round by round, so that a change of the machine meets all of them."""
    count = count or run.options.rounds
    results = {column.name: {"limit_of": column.limit_of or column.name, "servers": {}} for column in columns}
    failed = set()
    for turn in range(count):
        say(f"round {turn + 1} of {count}")
        order = started[turn % len(started) :] + started[: turn % len(started)]
        for column in columns:
            for server in order:
                if column.ability not in server.abilities or (column.name, server.name) in failed:
                    continue
                try:
                    figures = column.generate(server)
                    results[column.name]["servers"].setdefault(server.name, []).append(figures)
                    warn(column, server, figures)
                except load.LoadFailed as problem:
                    say(f"  {server.name}, {column.name}: left out, {problem}")
                    failed.add((column.name, server.name))
                    results[column.name]["servers"].pop(server.name, None)
    return results


def warn(column, server, figures):
    """Says what would make a figure no figure of hits."""
    if figures["bad"]:
        say(f"  {server.name}, {column.name}: {figures['bad']:.0f} bad responses of {figures['requests']:.0f}")
    if figures["origin_cpu_us"] * figures["requests"] > ORIGIN_SECONDS_MAX * 1e6:
        say(f"  {server.name}, {column.name}: asked the origin, these are not all hits")


def filled(started, expected):
    """Those servers that give these texts by target, after they were asked until all is stored, over each protocol."""
    fields = dict(content.browser_fields())
    kept = []
    for server in started:
        try:
            for protocol in server.abilities & {"http", "tls"}:
                for target, (text, ability) in expected.items():
                    if ability in server.abilities:
                        fill_and_check(server, protocol, target, fields, text)
            kept.append(server)
        except (OSError, ValueError) as problem:
            say(f"{server.name}: left out, {problem}")
            server.group.stop()
    return kept


def fill_and_check(server, protocol, target, fields, text):
    """Asks as the generators will, and once in a coding that can be read here. Raises ValueError."""
    for _ in range(FILL_PASSES):
        fetch(server, protocol, target, fields)
        time.sleep(0.05)  # some store a moment after they have answered
    if fetch(server, protocol, target, fields | {"Accept-Encoding": "gzip"}) != text:
        raise ValueError(f"another body of {target}")


def fetch(server, protocol, target, fields):
    """The body, decoded if it is in gzip."""
    scheme = {"http": "http", "tls": "https"}[protocol]
    asked = urllib.request.Request(f"{scheme}://127.0.0.1:{server.ports[protocol]}{target}", headers=fields)
    context = ssl._create_unverified_context() if protocol == "tls" else None
    with urllib.request.urlopen(asked, timeout=10, context=context) as response:
        body = response.read()
        return gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body


def body_of(answer):
    """The decoded body of a prepared answer."""
    body = answer.split(b"\r\n\r\n", 1)[1]
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def plain(options):
    """Bodies of some sizes with short heads, and a request of one field."""
    fields = [("Host", content.HOST)]
    with Bench(options) as run:
        answers = content.plain_answers()
        run.serve(answers.items())
        started = servers.start_all(run, {"plain"}, STORE_MIB)
        started = filled(started, {target: (body_of(answer), "http") for target, answer in answers.items()})
        columns = [
            Column(f"{count // 1024} KiB", "http", lambda server, count=count: load.wrk(run, server, "http", content.plain_target(count), fields))
            for count in content.PLAIN_BYTES
        ]
        return rounds(run, columns, started)


def start_page(run):
    """Starts all servers with a shop's rules and the page stored in them."""
    answers = content.page_answers()
    whole = body_of(answers[content.PAGE])
    run.serve(answers.items())
    started = servers.start_all(run, {"shop"}, STORE_MIB)
    return filled(started, {content.PAGE: (whole, "http"), content.PAGE_WITH_INCLUDE: (whole, "esi")})


def page(options):
    """A shop's page as browsers ask for it."""
    fields = content.browser_fields()
    with Bench(options) as run:
        started = start_page(run)

        def over(protocol, target):
            if protocol == "h2":
                return lambda server: load.h2load(run, server, target, fields)
            return lambda server: load.wrk(run, server, protocol, target, fields)

        columns = [
            Column("page", "http", over("http", content.PAGE)),
            Column("page, ESI menu", "esi", over("http", content.PAGE_WITH_INCLUDE), "page"),
            Column("page, TLS", "tls", over("tls", content.PAGE), "page"),
        ]
        if shutil.which("h2load"):
            columns.append(Column("page, h2", "h2", over("h2", content.PAGE), "page"))
        else:
            say("h2load: not installed (apt-get install nghttp2-client), HTTP/2 is left out")
        return rounds(run, columns, started)


def zipf(options):
    """Many URLs with many tags, asked as visitors ask: the popular ones most."""
    fields = content.browser_fields()
    with Bench(options) as run:
        say(f"writing {options.urls} bodies")
        run.serve(content.zipf_answers(options.urls))
        started = servers.start_all(run, {"shop"}, ZIPF_STORE_MIB)
        targets = [content.zipf_target(index) for index in range(options.urls)]
        requests = content.write_requests(run.memory / "requests", (content.request(target, fields) for target in targets))
        started = [server for server in started if server.name == "limit" or fill_many(run, server, requests)]
        head, walk = run.memory / "head", run.memory / "walk"
        head.write_text(content.lines(fields))
        walk.write_text("\n".join(content.zipf_walk(options.urls)) + "\n")
        script, environment = PROGRAMS / "zipf.lua", {"HEAD": str(head), "WALK": str(walk)}
        generate = lambda server: load.wrk(run, server, "http", "/", [], script, environment)
        return rounds(run, [Column(f"{options.urls:,} URLs", "http", generate)], started)


def fill_many(run, server, requests):
    """Fills a cache with all URLs; the second pass finds what the first left out. Whether all came."""
    for what in ("filling", "checking"):
        print(f"{what} {server.name}:", end="", flush=True)
        told = load.openloop(run, server.ports["http"], 0, requests, connections=FILL_CONNECTIONS)
        say(f", {told['done']} of {told['requests']} in {told['seconds']:.0f} s")
        server.empty_logs()
    if told["bad"]:
        say(f"{server.name}: left out, {told['bad']} bad responses")
    return not told["bad"]


def latency(options):
    """Times of the page's hits at fixed rates: half of what each server can, and half of what the slowest can."""
    fields = content.browser_fields()
    with Bench(options) as run:
        started = start_page(run)
        requests = content.write_requests(run.memory / "page", [content.request(content.PAGE, fields)])
        saturation = Column("saturation", "http", lambda server: load.wrk(run, server, "http", content.PAGE, fields))
        say("saturation")
        reached = rounds(run, [saturation], started, min(SATURATION_ROUNDS, options.rounds))["saturation"]["servers"]
        rates = {name: LATENCY_LOAD * statistics.median(figures["rps"] for figures in runs) for name, runs in reached.items()}
        slowest = min(rates.values())
        columns = [
            Column("at half of its own saturation", "http", lambda server: {**load.timed(run, server, rates[server.name], requests), "rate": rates[server.name]}),
            Column("at half of the slowest's saturation", "http", lambda server: {**load.timed(run, server, slowest, requests), "rate": slowest}),
        ]
        say("fixed rates")
        return rounds(run, columns, started)
