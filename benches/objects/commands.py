"""What Magento's object cache is asked, as packed commands."""

import json
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests/corpus/objects"
COLD = ["cold-home-after-flushall", "cold-category", "cold-product"]
WARM = ["warm-home", "warm-category", "warm-product", "warm-section-load"]


def pack(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def recorded(variant, steps):
    """The commands of recordings. Scripts are left out: the text of those that save was not recorded."""
    commands = []
    for step in steps:
        for line in (CORPUS / f"{variant}-{step}.jsonl").read_text().splitlines():
            for words in json.loads(line)["commands"]:
                if not (isinstance(words[0], str) and words[0].startswith("EVAL")):
                    commands.append(pack(*map(word, words)))
    return commands


def word(value):
    """An argument as it was, or one of that length."""
    if isinstance(value, str):
        return value.encode()
    return (value["id"].encode() * (value["bytes"] // len(value["id"]) + 1))[: value["bytes"]]


def loads():
    """Name -> commands that make the others find something, commands."""
    value = "x" * 1_000
    name = "69d_{:032x}".format
    tags = "69d_MAGE,69d_BLOCK_HTML"
    hashes = [pack("HMSET", "zc:k:" + name(at), "d", value, "t", tags, "m", 1_700_000_000, "i", 0) for at in range(1_000)]
    return {
        "HGET": (hashes, [pack("HGET", "zc:k:" + name(at), "d") for at in range(1_000)]),
        "HMSET": ([], hashes),
        "SADD": ([], [pack("SADD", f"zc:ti:69d_{at % 100}", name(at)) for at in range(50_000)]),
        "page views, no Lua": (recorded("lua0", COLD), recorded("lua0", WARM)),
        "page views, Lua": (recorded("lua1", COLD), recorded("lua1", WARM)),
    }
