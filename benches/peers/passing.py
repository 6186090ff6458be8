"""The pass part: what a proxy adds to the time of its origin, PHP-FPM and an HTTP server."""

from pathlib import Path

import bench
import content
import load
import parts
import servers

RATES = (50, 500)
STORE_MIB = 64
# As many as wait at once when PHP takes a while, and more than PHP-FPM has children.
CONNECTIONS = 32


def php_program():
    """PHP-FPM, whose name has its version in Debian."""
    names = ["php-fpm", *(path.name for path in sorted(Path("/usr/sbin").glob("php-fpm*"), reverse=True))]
    return next((path for path in map(servers.program, names) if path), None)


def quoted(text):
    """A string of PHP."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write_shop(pub):
    """A trivial script that answers as the cart page was recorded: its head, and as many bytes."""
    pub.mkdir()
    head, body = content.cart_answer().split(b"\r\n\r\n", 1)
    (pub / "cart.html").write_bytes(body)
    sent = [f"header({quoted(line)}, false);" for line in head.decode().split("\r\n")[1:] if not line.startswith("Content-Length:")]
    (pub / "index.php").write_text("<?php\nheader_remove('X-Powered-By');\n" + "\n".join(sent) + "\nreadfile(__DIR__ . '/cart.html');\n")
    (pub / "health_check.php").write_text("<?php\n")


def start_php(plan, program):
    """PHP-FPM on the origin's core."""
    write_shop(plan.values["pub"])
    flags = ["-R"] if servers.is_root() else []
    command = [program, "-F", *flags, "-y", plan.file("php-fpm.conf", "php-fpm.conf"), "-d", "session.auto_start=0"]
    return plan.run.start([command], plan.run.options.origin_core, plan.output, str(plan.values["php"]))


def parvis(run, name, kind, shared):
    """Parvis in front of one kind of origin."""
    plan = servers.Plan(run, name, {kind}, STORE_MIB, shared)
    return plan.server([[run.options.parvis, "run", "--config", plan.file("parvis.toml", "parvis.toml")]], "http")


def nginx(run, shared):
    """nginx in front of both, each at a port of its own."""
    plan = servers.Plan(run, "nginx-pass", set(), STORE_MIB, shared)
    return plan.server([[servers.program("nginx"), "-c", plan.file("nginx.conf", "nginx-pass.conf")]], "http")


def passes(options):
    """The time of a page that is never stored: from the origin itself, through nginx, through Parvis."""
    with bench.Bench(options) as run:
        run.serve([(content.CART, content.cart_answer())])
        shared = {"php": run.directory / "php.sock", "pub": run.directory / "pub"}
        fields = [field for field in content.browser_fields() if field[0] != "Accept-Encoding"]
        page = content.write_requests(run.memory / "cart", [content.request(content.CART, fields)])
        program = php_program()
        proxies = None if servers.missing("nginx") else nginx(run, shared)
        ways = {"HTTP origin": over_http(run, shared, page)}
        if program:
            start_php(servers.Plan(run, "php", set(), STORE_MIB, shared), program)
            ways["PHP-FPM"] = over_fastcgi(run, shared, page)
        else:
            parts.say("php-fpm: not installed (apt-get install php-fpm), FastCGI is left out")
        if proxies:
            proxies.start(run)
            for kind, asked in ways.items():
                asked["nginx"] = (proxies.ports[{"HTTP origin": "http", "PHP-FPM": "fastcgi"}[kind]], page, False)
        else:
            parts.say(servers.missing("nginx"))
        return rounds(run, ways)


def over_http(run, shared, page):
    """The ways to the HTTP origin: an address, requests, and whether a response ends with its connection."""
    server = parvis(run, "parvis", "http", shared)
    server.start(run)
    return {"direct": (bench.ORIGIN_PORT, page, False), "parvis": (server.ports["http"], page, False)}


def over_fastcgi(run, shared, page):
    """The ways to PHP-FPM."""
    script = content.write_requests(run.memory / "script", [content.fastcgi_request(shared["pub"] / "index.php")])
    server = parvis(run, "parvis-fastcgi", "fastcgi", shared)
    server.start(run)
    return {"direct": (shared["php"], script, True), "parvis": (server.ports["http"], page, False)}


def rounds(run, ways):
    """All ways at all rates, round by round."""
    results = {}
    for turn in range(run.options.rounds):
        parts.say(f"round {turn + 1} of {run.options.rounds}")
        for rate in RATES:
            for kind, asked in ways.items():
                column = results.setdefault(f"{kind}, {rate} requests/s", {"servers": {}})
                for name, (address, requests, until_close) in asked.items():
                    figures = load.openloop(run, address, rate, requests, until_close=until_close, connections=CONNECTIONS)
                    column["servers"].setdefault(name, []).append(figures)
                    if figures["bad"]:
                        parts.say(f"  {name}, {kind}: {figures['bad']} bad responses of {figures['requests']}")
    return results
