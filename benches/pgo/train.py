"""What a build is trained with: what a shop's visitors, its workers and its editors ask, most of it hits."""

import contextlib
import itertools
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import commands
import content
import processes
import template
import visitors

REPEATED = 4_000  # hits of each kind
PASSED = 10_000
MISSED = 300
CONNECTIONS = 100
OBJECTS_ASKED = 20_000  # commands of each kind that the object cache gets
OBJECTS_CONNECTIONS = 16
STORE_MIB = 256
END_SECONDS_MAX = 60
TAGGED, ETAG = "/robots.txt", '"recorded"'
SHORT = [("Accept-Encoding", "gzip, deflate")]


def say(text):
    print(text, flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Shop:
    """Answers by target: the pages of benches/peers, and numbered small ones without end."""

    def __init__(self):
        self.answers = {**content.page_answers(), **content.plain_answers(), content.CART: content.cart_answer()}
        head = [("Content-Type", "text/plain"), ("Cache-Control", content.STORED), ("X-Magento-Tags", "file"), ("ETag", ETAG)]
        self.answers[TAGGED] = content.response(head, bytes(range(256)) * 4)
        self.answers[content.HEALTH] = content.response([("Cache-Control", "no-store")], b"ok")
        self.generator = random.Random(content.SEED)

    def __call__(self, target):
        if target in self.answers:
            return self.answers[target]
        tags = ",".join(f"cat_p_{self.generator.randrange(MISSED)}" for _ in range(content.ZIPF_TAGS))
        head = [field for field in content.recorded_head("07-category") if field[0] != "X-Magento-Tags"] + [("X-Magento-Tags", tags)]
        return content.response(head, content.markup(self.generator, 2_000).encode())


class Trained:
    """A running Parvis, which writes its profile when it ends."""

    def __init__(self, program, directory, switches, values, environment):
        self.ports = {name: free_port() for name in ("http", "tls", "control")}
        self.log, self.objects = directory / "access.log", directory / "objects.sock"
        values = {**values, **self.ports, "log": self.log, "objects": self.objects, "store_mib": STORE_MIB}
        config = template.write(directory / f"{'-'.join(switches)}.toml", "parvis.toml", {*switches, "log", "objects"}, values)
        self.output = (directory / "output").open("ab")
        self.process = subprocess.Popen([program, "run", "--config", config], stdout=self.output, stderr=self.output, env=environment)
        end = time.monotonic() + processes.START_SECONDS_MAX
        while not processes.listens(self.ports["http"]):
            if self.process.poll() is not None or time.monotonic() > end:
                raise visitors.Failed((directory / "output").read_text(errors="replace")[-1000:])
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(END_SECONDS_MAX)


def certificate(directory):
    chain, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", f"/CN={content.HOST}", "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": chain, "key": key}


def train(program, environment, share=1.0):
    """Runs all of it, or a share of each part. Raises visitors.Failed where an answer is not what it should be."""
    with tempfile.TemporaryDirectory(prefix="pgo-") as scratch, contextlib.ExitStack() as running:
        directory, shop = Path(scratch), Shop()
        (directory / "pub").mkdir()
        (directory / "pub/index.php").write_text("<?php\n")
        values = {**certificate(directory), "origin": visitors.http_origin(shop), "php": directory / "php.sock", "pub": directory / "pub"}
        visitors.fastcgi_origin(values["php"], shop)
        for switch in ("http", "fastcgi"):
            say(f"training, with an origin of {switch}:")
            server = Trained(program, directory, [switch], values, environment)
            running.callback(server.process.kill)
            for part in PARTS:
                began = time.monotonic()
                part(server, lambda count: max(int(count * share), 5))
                say(f"  {part.__doc__} {time.monotonic() - began:.1f} s")
            server.stop()


def repeat(visitor, count, message, status=200):
    for _ in range(count):
        visitor.ask(message, status)


def settle(visitor, messages):
    """Stores what is asked for, and its coded forms."""
    for _ in range(4):
        for message in messages:
            visitor.ask(message, 200)
        time.sleep(0.3)


def plain_hits(server, times):
    """hits of 1, 24 and 150 KiB, with short heads"""
    visitor = visitors.Visitor(server.ports["http"])
    messages = [visitors.request("GET", content.plain_target(count), fields) for count in content.PLAIN_BYTES for fields in ([], SHORT)]
    settle(visitor, messages)
    for message in messages:
        repeat(visitor, times(REPEATED) // 2, message)


def page_messages(target, codings=("gzip, deflate", "gzip, deflate, br", "zstd, br, gzip")):
    fields = [field for field in content.browser_fields() if field[0] not in ("Accept-Encoding", "Host")]
    return [visitors.request("GET", target, [*fields, ("Accept-Encoding", coding)]) for coding in codings]


def page_hits(server, times, tls=False):
    """hits of a page, with and without a menu, in each coding"""
    visitor = visitors.Visitor(server.ports["tls" if tls else "http"], tls)
    messages = page_messages(content.PAGE) + page_messages(content.PAGE_WITH_INCLUDE)
    settle(visitor, messages)
    for message in messages:
        repeat(visitor, times(REPEATED) // 2, message)
    repeat(visitor, times(20), page_messages(content.PAGE, ["identity"])[0])


def secure_hits(server, times):
    """the same over TLS"""
    page_hits(server, times, tls=True)


def http2_hits(server, times):
    """the same over HTTP/2"""
    visitor = visitors.Http2Visitor(server.ports["tls"])
    fields = [field for field in content.browser_fields() if field[0] != "Host"]
    for target in (content.PAGE, content.PAGE_WITH_INCLUDE, content.plain_target(content.PLAIN_BYTES[0])):
        for _ in range(times(REPEATED) // 2):
            visitor.ask(target, fields)


def short_answers(server, times):
    """304, HEAD and ranges"""
    visitor = visitors.Visitor(server.ports["http"])
    settle(visitor, [visitors.request("GET", TAGGED, SHORT)])
    repeat(visitor, times(REPEATED) // 4, visitors.request("GET", TAGGED, [*SHORT, ("If-None-Match", ETAG)]), 304)
    repeat(visitor, times(REPEATED) // 10, visitors.request("HEAD", TAGGED, SHORT))
    repeat(visitor, times(REPEATED) // 10, visitors.request("GET", TAGGED, [("Range", "bytes=100-199")]), 206)


def passes(server, times):
    """passes of a cart's page, POST too"""
    visitor = visitors.Visitor(server.ports["http"])
    fields = [field for field in content.browser_fields() if field[0] not in ("Host", "Accept-Encoding")]
    repeat(visitor, times(PASSED), visitors.request("GET", content.CART, fields))
    # Compressing takes so many instructions that of many such all else would look cold.
    repeat(visitor, times(PASSED) // 20, visitors.request("GET", content.CART, [*fields, *SHORT]))
    repeat(visitor, times(PASSED) // 5, visitors.request("POST", content.CART, fields, b"qty=1&form_key=Dx806bHriVAx8pa0"))


def misses(server, times):
    """misses, purges by tag and by URL"""
    visitor = visitors.Visitor(server.ports["http"])
    for number in range(times(MISSED)):
        message = page_messages(f"/product-{number}.html?p={number}&utm_source=mail", ["gzip, deflate"])[0]
        repeat(visitor, 3, message)
        if number % 5 == 0:
            pattern = f"((^|,)cat_p_{number}(,|$))|((^|,)cat_p_{number + 1}(,|$))"
            visitor.ask(visitors.request("PURGE", "/", [("X-Magento-Tags-Pattern", pattern)]), 200)


def connections(server, times):
    """connections with one request each, TLS too, and what operators ask"""
    message = page_messages(content.PAGE)[0]
    for number in range(times(CONNECTIONS)):
        for tls in (False, True):
            visitor = visitors.Visitor(server.ports["tls" if tls else "http"], tls)
            visitor.ask(message, 200)
            visitor.close()
        if number % 10 == 0:
            asked = visitors.Visitor(server.ports["control"])
            asked.ask(visitors.request("GET", "/metrics"), 200)
            asked.close()


def object_cache(server, times):
    """commands of the object cache"""
    clients = [visitors.ObjectsClient(server.objects) for _ in range(OBJECTS_CONNECTIONS)]
    for before, asked in commands.loads().values():
        for command in before:
            clients[0].ask(command)
        several = itertools.cycle(clients)
        for command in itertools.islice(itertools.cycle(asked), times(OBJECTS_ASKED)):
            next(several).ask(command)


PARTS = (plain_hits, page_hits, secure_hits, http2_hits, short_answers, passes, misses, connections, object_cache)
