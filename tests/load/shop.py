"""The shop: its web root, its prepared pages, PHP-FPM, and the Redis of its sessions."""

import gzip
import json
import random
import resource
import shutil
import socket
import subprocess
from pathlib import Path

import content
import passing
import servers
import template

HERE = Path(__file__).resolve().parent
HANDLER = content.REPOSITORY / "tests/php/session.php"
SHOP = json.loads((HERE / "shop.json").read_text())
# Files of the theme and their bytes, as calls.rs asks for them, and so many images.
FILES = {"css/styles-m.css": 60_000, "css/styles-l.css": 40_000, "requirejs/require.js": 18_000, "js/bundle0.js": 90_000,
         "js/bundle1.js": 90_000, "images/logo.svg": 3_000}
STATIC_ROOT = "static/frontend/Magento/luma/en_US"
IMAGE_ROOT = "media/catalog/product/cache/7c38845ff069edb7e4ecd64875256957"
IMAGES, IMAGE_BYTES = 40, 12_000
MENU = ("http://shop.test/page_cache/block/esi/blocks/%5B%22catalog.topnav%22%5D/handles/WyJkZWZhdWx0Il0%3D/")
WITH_MENU = ("home", "category", "product", "search", "cart", "cart-empty", "login", "account", "missing")
# What the script itself sends.
OF_THE_SCRIPT = {"set-cookie", "x-magento-tags", "cache-control", "pragma", "location", "vary"}


def mean_ms(call):
    """Milliseconds of PHP that a call of the generator takes, on average."""
    least, most = SHOP["kinds"][SHOP["calls"][call]]["ms"]
    return (least + most) / 2


def php_seconds(requests):
    """Seconds of PHP that a session takes whose requests are these, where pages of the catalogue are stored."""
    return sum(count * mean_ms(call) / 1000 for call, count in requests.items() if call in SHOP["calls"])


def text(value):
    """A string of PHP."""
    return passing.quoted(value)


class Shop:
    """The shop of one run in a directory of its own; with ESI the menu is a fragment."""

    def __init__(self, directory, children, with_esi):
        self.directory, self.children = directory, children
        self.pub = directory / "pub"
        self.php, self.status = directory / "php.sock", directory / "status.sock"
        self.redis, self.sessions = directory / "redis.sock", directory / "sessions.sock"
        self.write_pages(with_esi)
        self.write_files()
        self.pace(1)

    def write_pages(self, with_esi):
        generator = random.Random(content.SEED)
        bodies = self.directory / "bodies"
        bodies.mkdir()
        menu = content.markup(generator, SHOP["kinds"]["menu"]["bytes"])
        entries = []
        for kind, page in SHOP["kinds"].items():
            (bodies / kind).write_text(self.body(kind, page["bytes"], generator, menu, with_esi))
            head = [f"{name}: {value}" for name, value in content.recorded_head(page["head"]) if name.lower() not in OF_THE_SCRIPT]
            lines = ", ".join(map(text, head))
            age = f"'max_age' => {page['max_age']}, " if "max_age" in page else ""
            entries.append(f"{text(kind)} => ['ms' => [{page['ms'][0]}, {page['ms'][1]}], {age}'head' => [{lines}]],\n")
        (self.directory / "pages.php").write_text("<?php\nreturn [\n" + "".join(entries) + "];\n")

    @staticmethod
    def body(kind, count, generator, menu, with_esi):
        if kind == "menu":
            return menu
        if kind == "add":
            return "[]"
        if kind.startswith("section") or kind == "step":
            start = '{"cart":{"summary_count":1},"directory-data":"'
            return start + content.markup(generator, count).replace('"', "'").replace("\n", " ")[: max(0, count - len(start) - 2)] + '"}'
        if kind not in WITH_MENU:
            return content.markup(generator, count)
        inside = f'<esi:include src="{MENU}" />' if with_esi else menu
        rest = content.markup(generator, max(0, count - len(menu) - 60))
        place = rest.index("\n", len(rest) // 8) + 1
        return "<!doctype html><html><body>" + rest[:place] + inside + rest[place:] + "</body></html>"

    def write_files(self):
        generator = random.Random(content.SEED)
        self.pub.mkdir()
        for script in ("index.php", "health_check.php"):
            shutil.copy(HERE / "php/index.php", self.pub / script)
        for name, count in FILES.items():
            path = self.pub / STATIC_ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.markup(generator, count))
            # Magento's deployment compresses them in advance where it is told to.
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 6))
        images = self.pub / IMAGE_ROOT
        images.mkdir(parents=True)
        for number in range(IMAGES):
            (images / f"image-{number}.jpg").write_bytes(generator.randbytes(IMAGE_BYTES))

    def pace(self, factor):
        """From now on PHP takes so many times as long."""
        path = self.directory / "pace.new"
        path.write_text(str(factor))
        path.rename(self.directory / "pace")

    def start(self, run, sessions):
        """Starts Redis and PHP-FPM, which has its sessions at this socket."""
        redis = ["redis-server", "--port", 0, "--unixsocket", self.redis, "--unixsocketperm", "777", "--save", "", "--dir", self.directory]
        self.redis_group = run.start([redis], self.directory / "redis.out", str(self.redis))
        values = {"directory": self.directory, "php": self.php, "status": self.status, "children": self.children,
                  "handler": HANDLER, "sessions": sessions}
        switches = {"root"} if servers.is_root() else set()
        config = template.write(self.directory / "php-fpm.conf", HERE / "templates/php-fpm.conf", switches, values)
        flags = ["-R"] if servers.is_root() else []
        command = [passing.php_program(), "-F", *flags, "-y", config, "-d", "session.auto_start=0", "-d", "opcache.validate_timestamps=0"]
        self.php_group = run.start([command], self.directory / "php.out", str(self.php))

    def in_php(self):
        """What PHP-FPM says of itself: children at work and connections that wait for one; or None."""
        try:
            told = ask_status(str(self.status))
        except (OSError, ValueError):
            return None
        return {"active": told["active processes"], "queue": waiting(str(self.php)), "accepted": told["accepted conn"]}


def waiting(path):
    """Connections that wait at a Unix socket, of which PHP-FPM's status says nothing; or None."""
    if not shutil.which("ss"):
        return None
    told = subprocess.run(["ss", "-xlnH"], capture_output=True, text=True).stdout
    return next((int(line.split()[2]) for line in told.splitlines() if path in line.split()), None)


def ask_status(path):
    """The status page of PHP-FPM as JSON, by FastCGI."""
    values = {"SCRIPT_NAME": "/status", "SCRIPT_FILENAME": "/status", "REQUEST_METHOD": "GET", "QUERY_STRING": "json", "REQUEST_URI": "/status?json"}
    parameters = b"".join(content.fastcgi_pair(name.encode(), value.encode()) for name, value in values.items())
    begin = b"\0\1\0\0\0\0\0\0"
    asked = b"".join(content.fastcgi_record(kind, piece) for kind, piece in ((1, begin), (4, parameters), (4, b""), (5, b"")))
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(2)
        stream.connect(path)
        stream.sendall(asked)
        read = b""
        while piece := stream.recv(65_536):
            read += piece
    said, at = b"", 0
    while at + 8 <= len(read):
        length, padding = int.from_bytes(read[at + 4 : at + 6], "big"), read[at + 6]
        if read[at + 1] == 6:
            said += read[at + 8 : at + 8 + length]
        at += 8 + length + padding
    return json.loads(said.split(b"\r\n\r\n", 1)[1])


def missing():
    """What the shop needs and is not there, with Debian's packages."""
    absent = [] if passing.php_program() else ["php-fpm (package php-fpm)"]
    absent += [] if shutil.which("redis-server") else ["redis-server (package redis-server)"]
    modules = Path("/etc/php")
    has_redis = any(modules.glob("*/fpm/conf.d/*redis.ini")) if modules.exists() else True
    return absent + ([] if has_redis else ["PHP's redis module (package php-redis)"])


def open_files_max():
    """The descriptors that a process may have, from now on those started here, too."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
