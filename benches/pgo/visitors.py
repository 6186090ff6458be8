"""Clients and origins that train: they ask and answer as a shop's do, with nothing but Python."""

import re
import socket
import ssl
import struct
import threading

import content

READ_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
NAME_OF_TARGET = b"REQUEST_URI"
WINDOW = 1 << 30


class Failed(Exception):
    """What was answered is not what was asked for."""


def connect(address):
    made = socket.socket(socket.AF_INET)
    made.settimeout(TIMEOUT_SECONDS)
    made.connect(("127.0.0.1", address))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def secured(plain, protocol):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(plain, server_hostname=content.HOST)


def request(method, target, fields=(), body=b""):
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {content.HOST}\r\n{content.lines(fields)}{length}\r\n".encode() + body


class ObjectsClient:
    """PHP, as it asks the object cache: one command, one reply."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_SECONDS)
        self.socket.connect(str(path))
        self.replies = self.socket.makefile("rb")

    def ask(self, command):
        """Asks, and reads the reply in whole. Raises Failed."""
        self.socket.sendall(command)
        self.read_reply()

    def read_reply(self):
        line = self.replies.readline()
        if not line.endswith(b"\r\n") or line.startswith(b"-"):
            raise Failed(f"the object cache said {line}")
        if line.startswith(b"$") and line != b"$-1\r\n":
            self.replies.read(int(line[1:]) + 2)
        for _ in range(max(int(line[1:]), 0) if line.startswith(b"*") else 0):
            self.read_reply()


class Visitor:
    """An HTTP/1.1 client on a connection that it keeps."""

    def __init__(self, port, tls=False):
        self.socket = secured(connect(port), "http/1.1") if tls else connect(port)

    def ask(self, message, status):
        """Asks, and reads the response in whole. Raises Failed."""
        self.socket.sendall(message)
        read = b""
        while b"\r\n\r\n" not in read:
            read += self.more()
        head, _, body = read.partition(b"\r\n\r\n")
        if int(head[9:12]) != status:
            raise Failed(f"{message.splitlines()[0]}: {head.splitlines()[0]}, not {status}")
        if message.startswith(b"HEAD") or status in (204, 304):
            return head, body
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        while len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n"):
            body += self.more()
        return head, body

    def more(self):
        read = self.socket.recv(READ_BYTES)
        if not read:
            raise Failed("the connection ended")
        return read

    def close(self):
        self.socket.close()


class Http2Visitor:
    """An HTTP/2 client that asks for one thing after the other."""

    def __init__(self, port):
        self.socket = secured(connect(port), "h2")
        self.stream, self.taken, self.buffer = -1, 0, b""
        settings = struct.pack("!HI", 4, WINDOW)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack("!I", WINDOW)))

    def ask(self, target, fields):
        """Asks, and reads the content. Raises Failed."""
        self.stream += 2
        names = [(":method", "GET"), (":scheme", "https"), (":authority", content.HOST), (":path", target)]
        block = b"".join(b"\0" + text(name.lower()) + text(value) for name, value in [*names, *fields])
        self.socket.sendall(frame(1, 5, self.stream, block))
        length = 0
        while True:
            kind, flags, stream, payload = self.next()
            if kind == 0:
                length += len(payload)
                self.taken += len(payload)
            if kind == 4 and not flags & 1:
                self.socket.sendall(frame(4, 1, 0, b""))
            if kind in (3, 7):
                raise Failed(f"HTTP/2: {target} was reset")
            if stream == self.stream and flags & 1 and kind in (0, 1):
                break
        if self.taken > WINDOW // 2:
            self.socket.sendall(frame(8, 0, 0, struct.pack("!I", self.taken)))
            self.taken = 0
        if not length:
            raise Failed(f"HTTP/2: no content of {target}")

    def next(self):
        self.fill(9)
        length, kind, flags, stream = int.from_bytes(self.buffer[:3], "big"), *struct.unpack("!BBI", self.buffer[3:9])
        self.fill(9 + length)
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        return kind, flags, stream, payload

    def fill(self, count):
        while len(self.buffer) < count:
            read = self.socket.recv(READ_BYTES)
            if not read:
                raise Failed("HTTP/2: the connection ended")
            self.buffer += read

    def close(self):
        self.socket.close()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


def text(value):
    """A string of HPACK (RFC 7541 5.2), not in Huffman's code."""
    raw = str(value).encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, sizes = len(raw) - 127, [127]
    while rest > 127:
        sizes.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*sizes, rest]) + raw


def serve(listener, answer):
    """Answers on each connection of a listening socket, until this process ends."""

    def loop():
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    listener.listen(64)
    threading.Thread(target=loop, daemon=True).start()


def http_origin(answers):
    """A port at which an HTTP origin with these answers listens."""

    def answer(connection):
        with connection:
            read = b""
            while True:
                while b"\r\n\r\n" not in read:
                    more = connection.recv(READ_BYTES)
                    if not more:
                        return
                    read += more
                head, _, read = read.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
                length = int(length[1]) if length else 0
                while len(read) < length:
                    read += connection.recv(READ_BYTES)
                read = read[length:]
                connection.sendall(answers(head.split(b" ", 2)[1].decode()))

    listener = socket.create_server(("127.0.0.1", 0))
    serve(listener, answer)
    return listener.getsockname()[1]


def fastcgi_origin(path, answers):
    """A FastCGI application with these answers at a Unix socket, which takes a connection for each request."""

    def answer(connection):
        with connection:
            read = b""
            while not ends(read):
                more = connection.recv(READ_BYTES)
                if not more:
                    return
                read += more
            at = read.index(NAME_OF_TARGET)  # before it stand the lengths of name and value
            target = read[at + len(NAME_OF_TARGET) :][: read[at - 1]]
            reply = answers(target.decode()).partition(b"\r\n")[2]
            pieces = [reply[start : start + 0xFFF8] for start in range(0, len(reply), 0xFFF8)]
            records = [content.fastcgi_record(6, piece) for piece in [*pieces, b""]]
            connection.sendall(b"".join(records) + content.fastcgi_record(3, bytes(8)))

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    serve(listener, answer)


def ends(read):
    """Has a whole request come? Its last record is of STDIN and has no content."""
    at = 0
    while at + 8 <= len(read):
        kind, length, padding = read[at + 1], int.from_bytes(read[at + 4 : at + 6], "big"), read[at + 6]
        if kind == 5 and length == 0:
            return True
        at += 8 + length + padding
    return False
