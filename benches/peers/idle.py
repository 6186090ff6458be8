"""The idle part: memory that a server keeps for a connection on which nothing is asked any more."""

import socket
import ssl
import time

import content
import processes
import servers
from bench import Bench
from parts import STORE_MIB, body_of, filled, say

CONNECTIONS = 1_000
SETTLE_SECONDS = 1
TIMEOUT_SECONDS = 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
DATA, HEADERS, SETTINGS = 0x0, 0x1, 0x4


def frame(kind, flags, stream, payload=b""):
    """RFC 9113 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(index, value):
    """A field whose name is in HPACK's static table, never indexed (RFC 7541 6.2.3)."""
    return bytes([0x1F, index - 15] if index >= 15 else [0x10 | index]) + bytes([len(value)]) + value.encode()


def ask_http1(stream, target):
    """Asks once and reads the whole response."""
    stream.sendall(content.request(target, [("Host", content.HOST)]))
    read = b""
    while b"\r\n\r\n" not in read:
        read += received(stream)
    head, body = read.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += received(stream)


def ask_http2(stream, target):
    """The same over HTTP/2: up to the frame that ends the stream."""
    fields = bytes([0x82, 0x87]) + literal(4, target) + literal(1, content.HOST)
    stream.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_STREAM | END_HEADERS, 1, fields))
    read = b""
    while True:
        while len(read) < 9 or len(read) < 9 + int.from_bytes(read[:3], "big"):
            read += received(stream)
        length, kind, flags = int.from_bytes(read[:3], "big"), read[3], read[4]
        read = read[9 + length :]
        if kind == SETTINGS and not flags & ACK:
            stream.sendall(frame(SETTINGS, ACK, 0))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            return


def received(stream):
    piece = stream.recv(65_536)
    if not piece:
        raise OSError("the server has closed the connection")
    return piece


def context(protocol):
    """Takes any certificate, and offers one protocol by ALPN."""
    made = ssl._create_unverified_context()
    made.set_alpn_protocols([protocol])
    return made


def open_one(server, column, contexts, target):
    """A connection on which one response was read."""
    port = server.ports["http" if column == "http" else "tls"]
    stream = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    if column != "http":
        stream = contexts[column].wrap_socket(stream, server_hostname=content.HOST)
    (ask_http2 if column == "h2" else ask_http1)(stream, target)
    return stream


def grown(server, column, contexts, target):
    """Bytes by which the server's resident memory grows with each of many idle connections."""
    # The first ones make it take what it needs only once.
    before_them = [open_one(server, column, contexts, target) for _ in range(CONNECTIONS // 10)]
    time.sleep(SETTLE_SECONDS)
    before = processes.resident_bytes(server.group.processes())
    streams = [open_one(server, column, contexts, target) for _ in range(CONNECTIONS)]
    time.sleep(SETTLE_SECONDS)
    after = processes.resident_bytes(server.group.processes())
    for stream in before_them + streams:
        stream.close()
    return (after - before) / CONNECTIONS


def idle(options):
    """Of each protocol, what an idle connection takes; each server anew for each, so that none uses what another gave back."""
    target = content.plain_target(content.PLAIN_BYTES[0])
    contexts = {"tls": context("http/1.1"), "h2": context("h2")}
    results = {}
    for column, ability in (("HTTP/1.1", "http"), ("HTTP/1.1 over TLS", "tls"), ("HTTP/2 over TLS", "h2")):
        with Bench(options) as run:
            answers = content.plain_answers()
            run.serve(answers.items())
            started = filled(servers.start_all(run, {"plain"}, STORE_MIB), {target: (body_of(answers[target]), "http")})
            column_results = results.setdefault(column, {"servers": {}})
            for server in started:
                if ability not in server.abilities:
                    continue
                try:
                    column_results["servers"][server.name] = [{"bytes": grown(server, ability, contexts, target)}]
                except (OSError, ValueError) as problem:
                    say(f"{server.name}, {column}: left out, {problem}")
    return results
