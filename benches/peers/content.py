"""What is served and asked: pages with heads as recorded from a Magento shop, and the requests for them."""

import email.utils
import gzip
import json
import random
import struct
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXCHANGES = REPOSITORY / "tests/corpus/http.jsonl"

HOST = "shop.test"
PLAIN_BYTES = (1024, 24 * 1024, 150 * 1024)
PAGE_GZIP_BYTES = 24 * 1024
ZIPF_EXPONENT = 1.0
ZIPF_TAGS = 40
ZIPF_BYTES_MIN, ZIPF_BYTES_MAX = 4 * 1024, 12 * 1024
ZIPF_WALK = 400_000
SEED = 20_260_101  # the same pages and the same walk in each run

PAGE, PAGE_WITH_INCLUDE, CART = "/category.html", "/category-with-include.html", "/checkout/cart/"
HEALTH = "/health_check.php"
STORED = "public, max-age=86400, s-maxage=86400"

# What belongs to a connection or to the coding, which the answers here state for themselves.
OF_THE_CONNECTION = {"server", "date", "transfer-encoding", "connection", "content-length", "content-encoding", "expires"}


def recorded(name):
    """A recorded exchange by its name."""
    with EXCHANGES.open() as lines:
        for line in lines:
            exchange = json.loads(line)
            if exchange["name"] == name:
                return exchange
    raise SystemExit(f"{EXCHANGES} has no exchange named {name}")


def recorded_head(name):
    """Its response's fields as they came from the application."""
    return [(field, value) for field, value in recorded(name)["response"]["headers"] if field.lower() not in OF_THE_CONNECTION]


def response(fields, body):
    """An answer as it goes over the wire, of the time when it was prepared."""
    date = email.utils.formatdate(usegmt=True)
    return f"HTTP/1.1 200 OK\r\nDate: {date}\r\n{lines(fields)}Content-Length: {len(body)}\r\n\r\n".encode() + body


def markup(generator, count):
    """About `count` bytes of HTML that compresses about as well as a shop's."""
    pieces, size = [], 0
    while size < count:
        word = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(3, 9)))
        piece = f'<li class="item product product-item"><a href="/{word}.html" data-id="{generator.getrandbits(40)}">{word}</a></li>\n'
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces)[:count]


def page_parts():
    """The recorded menu, and the markup before and after its place, in the size that gives PAGE_GZIP_BYTES with it."""
    generator = random.Random(SEED)
    menu = markup(generator, recorded("02-esi-topnav")["response"]["decoded_body_bytes"])
    rest = markup(generator, 400_000)
    low, high = 0, len(rest)
    while high - low > 100:
        middle = (low + high) // 2
        if len(gzip.compress((menu + rest[:middle]).encode(), 6)) < PAGE_GZIP_BYTES:
            low = middle
        else:
            high = middle
    place = rest.rindex("\n", 0, low // 8) + 1  # between elements, where a menu is
    return "<!doctype html><html><body>" + rest[:place], menu, rest[place:low] + "</body></html>"


def page_answers():
    """The page whole, the page with the recorded include of its menu, and the menu."""
    page, menu = recorded_head("07-category"), recorded_head("02-esi-topnav")
    include = recorded("07-category")["response"]["esi"][0]["tag"]
    before, content, after = page_parts()

    def coded(head, text):
        return response([*head, ("Content-Encoding", "gzip")], gzip.compress(text.encode(), 6))

    return {
        PAGE: coded(page, before + content + after),
        PAGE_WITH_INCLUDE: coded(page, before + include + after),
        include.split(f"http://{HOST}")[1].split('"')[0]: coded(menu, content),
    }


def plain_target(count):
    """The target of the plain body of so many bytes."""
    return f"/plain-{count}.html"


def plain_answers():
    """Bodies with a short head."""
    generator = random.Random(SEED)
    head = [("Content-Type", "text/html; charset=UTF-8"), ("Cache-Control", STORED), ("X-Magento-Tags", "store,cms_b,cat_c_3")]
    return {plain_target(count): response(head, markup(generator, count).encode()) for count in PLAIN_BYTES}


def cart_answer():
    """A page that is never stored, with the recorded head and size of a cart's."""
    exchange = recorded("22-cart-empty")
    body = markup(random.Random(SEED), exchange["response"]["decoded_body_bytes"]).encode()
    return response([field for field in recorded_head("22-cart-empty") if field[0] != "Vary"], body)


def zipf_target(index):
    """The target of the URL of this rank."""
    return f"/catalog/product-{index:06}.webp"


def zipf_answers(count):
    """So many bodies of some KiB, each with its tags. They are of a type that no server compresses, so that all send the same bytes."""
    generator = random.Random(SEED)
    pool = generator.randbytes(ZIPF_BYTES_MAX + 65_536)
    for index in range(count):
        tags = ",".join(f"cat_p_{generator.randrange(count)}" for _ in range(ZIPF_TAGS))
        head = [("Content-Type", "image/webp"), ("Cache-Control", STORED), ("X-Magento-Tags", tags)]
        start = generator.randrange(65_536)
        yield zipf_target(index), response(head, pool[start : start + generator.randint(ZIPF_BYTES_MIN, ZIPF_BYTES_MAX)])


def zipf_walk(count):
    """The targets to ask in this order: the one of rank r with a share of 1 / r."""
    weights, total = [], 0.0
    for rank in range(1, count + 1):
        total += rank**-ZIPF_EXPONENT
        weights.append(total)
    ranks = list(range(count))
    random.Random(SEED).shuffle(ranks)  # popular ones are not neighbours in memory
    return [zipf_target(index) for index in random.Random(SEED).choices(ranks, cum_weights=weights, k=ZIPF_WALK)]


def write_answers(path, answers):
    """The file that programs/limit.c serves, from pairs of target and answer."""
    with open(path, "wb") as file:
        for target, answer in answers:
            name = target.encode()
            file.write(struct.pack("=II", len(name), len(answer)) + name + answer)
    return path


def write_requests(path, requests):
    """The file that programs/openloop.c sends."""
    with open(path, "wb") as file:
        for request in requests:
            file.write(struct.pack("=I", len(request)) + request)
    return path


def browser_fields():
    """What a visitor's browser sends besides the target: a recorded head, with a third cookie."""
    fields = [field for field in recorded("07-category")["request"]["headers"] if field[0] not in ("Connection", "Cookie")]
    cookies = "PHPSESSID=kp3ebbqvt2u2domf2qv6tol0ku; form_key=Dx806bHriVAx8pa0; mage-cache-sessid=true"
    return [*fields, ["Cookie", cookies]]


def request(target, fields):
    """A GET as it goes over the wire."""
    return f"GET {target} HTTP/1.1\r\n{lines(fields)}\r\n".encode()


def lines(fields):
    """Fields as lines of a head."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields)


def fastcgi_request(script):
    """A request of FastCGI for this script, which asks PHP-FPM to close the connection at the end."""
    values = {
        "SCRIPT_FILENAME": script, "REQUEST_METHOD": "GET", "REQUEST_URI": CART, "QUERY_STRING": "", "CONTENT_LENGTH": "",
        "SCRIPT_NAME": "/index.php", "SERVER_PROTOCOL": "HTTP/1.1", "GATEWAY_INTERFACE": "CGI/1.1", "HTTP_HOST": HOST,
    }
    parameters = b"".join(fastcgi_pair(name.encode(), str(value).encode()) for name, value in values.items())
    begin = struct.pack("!HB5x", 1, 0)
    return b"".join(fastcgi_record(kind, content) for kind, content in ((1, begin), (4, parameters), (4, b""), (5, b"")))


def fastcgi_pair(name, value):
    long = struct.pack("!I", len(value) | 1 << 31) if len(value) > 127 else bytes([len(value)])
    return bytes([len(name)]) + long + name + value


def fastcgi_record(kind, content):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content
