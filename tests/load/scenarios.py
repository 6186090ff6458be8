"""What is run: for each scenario the shop's size, the phases of load, and in front of what."""

import math
from dataclasses import dataclass, field

import shop

# Of PHP's time that is asked for, where children are sized for what cannot be cached.
USED = 0.6
SALE_CATALOGUE = {"products": 400, "categories": 30, "words": 50}
SMALL_CATALOGUE = {"products": 60, "categories": 12, "words": 20}
QUICK_CATALOGUE = {"products": 8, "categories": 3, "words": 3}
FILES = ("static", "image")


@dataclass
class Scenario:
    """A run in front of each server."""

    name: str
    children: int
    think_ms: int
    catalogue: dict
    phases: list
    # What PHP's times are multiplied by in phases of these names.
    paces: dict = field(default_factory=dict)
    # Fixed limits of Parvis that are tried besides.
    limits: tuple = ()
    users_max: int = 12_000
    # What it is about, for readers.
    about: str = ""


def seconds_of(described, kind):
    """PHP's seconds that a session of this kind takes."""
    return shop.php_seconds(described[kind]["requests"])


def asked(described, kind):
    """Requests of a session that are not for files."""
    return sum(count for call, count in described[kind]["requests"].items() if call not in FILES)


def bots(rate):
    """A rate of bots' requests, by kind: most follow filters, the declared one is modest."""
    return {"facet": 0.6 * rate, "abuse": 0.25 * rate, "goodbot": 0.15 * rate}


# Requests in a second, several times what PHP can do.
CRAWLER_RATE = 500


def sale(options, described):
    users = options.users or (60 if options.quick else 10_000)
    think = 1.0 if options.quick else 10.0
    rate = users / (described["buyers"]["steps"] * think)
    children = options.children or math.ceil(rate * seconds_of(described, "buyers") / USED) + 2
    # Who comes opens a first page, so all come over the time of a session: then as many do as later on.
    ramp, hold = (3, 5) if options.quick else (round(users / rate), options.seconds)
    settle = ramp + (1 if options.quick else 20)
    phase = {"name": "sale", "seconds": settle + hold, "settle_seconds": settle, "users": users, "ramp_seconds": ramp}
    phase |= bots(options.bots * rate * asked(described, "buyers"))
    about = (f"{users:,} visitors at once who think for {think:g} s, the catalogue warm, {children} children: "
             f"PHP has {1 / USED:.1f} times what cannot be cached needs" + (f", {options.bots:.0%} bots on top" if options.bots else ""))
    catalogue = QUICK_CATALOGUE if options.quick else SALE_CATALOGUE
    return Scenario("sale", children, int(think * 1000), catalogue, [phase], users_max=users + 100, about=about)


def by_capacity(children, described):
    """Rates by the share of PHP's time that they ask for."""
    def rates(buyers=0.0, browsers=0.0, facet=0.0, abuse=0.0, goodbot=0.0):
        sessions = {"buyers": buyers * children / seconds_of(described, "buyers"), "browsers": browsers * children / seconds_of(described, "browsers")}
        asked_for = {"facet": facet, "abuse": abuse, "goodbot": goodbot}
        return sessions | {call: share * children / (shop.mean_ms(call) / 1000) for call, share in asked_for.items()}

    return rates


def phase(options, name, seconds, rates):
    seconds = 4 if options.quick else seconds
    return {"name": name, "seconds": seconds, "settle_seconds": 1 if options.quick else min(15, seconds / 3), **rates}


def overload(options, described):
    children = options.children or (4 if options.quick else 8)
    rates = by_capacity(children, described)
    phases = [
        phase(options, "unloaded", 45, rates(buyers=0.3)),
        phase(options, "full", 45, rates(buyers=0.5, browsers=0.6)),
        phase(options, "overload", options.seconds, rates(buyers=0.5, browsers=2.2, facet=1.4, abuse=0.7, goodbot=0.2)),
        phase(options, "after", 45, rates(buyers=0.3)),
    ]
    about = (f"{children} children, offered five times what they can do: half of it by those who may buy, 2.2 by visitors with rare "
             "filters and searches, 2.3 by bots; then a third of what they can do, to see when all is well again")
    return Scenario("overload", children, 200 if options.quick else 2_000, small(options), phases, about=about)


def small(options):
    return QUICK_CATALOGUE if options.quick else SMALL_CATALOGUE


def slow(options, described):
    children = options.children or (4 if options.quick else 16)
    rates = by_capacity(children, described)(buyers=0.4, browsers=0.6)
    phases = [phase(options, name, 40, rates) for name in ("normal", "slow", "back")]
    limits = tuple(sorted({max(1, children * part // 8) for part in (2, 4, 6, 8)}))
    about = f"{children} children, offered all that they can do; in the middle PHP takes twice as long"
    return Scenario("slow", children, 200 if options.quick else 2_000, small(options), phases, {"slow": 2.0},
                    limits[-1:] if options.quick else limits, about=about)


def with_bots(options, described):
    users = options.users or (40 if options.quick else 1_000)
    think = 0.5 if options.quick else 10.0
    rate = users / (described["buyers"]["steps"] * think)
    children = options.children or math.ceil(rate * seconds_of(described, "buyers") / USED) + 2
    on_top = bots((options.bots or 0.3) * rate * asked(described, "buyers"))
    ramp = 2 if options.quick else round(users / rate)
    come, stay = {"users": users, "ramp_seconds": ramp}, {"users": users}
    crawler = {"crawler": 40 if options.quick else CRAWLER_RATE}
    phases = [
        {**phase(options, "visitors", ramp + 60, come), **({} if options.quick else {"settle_seconds": ramp + 15})},
        phase(options, "with bots", options.seconds, {**stay, **on_top}),
        phase(options, "bots gone", 45, stay),
        phase(options, "with crawler", options.seconds, {**stay, **crawler}),
        phase(options, "crawler gone", 45, stay),
    ]
    about = (f"{users:,} visitors, {children} children, and then {options.bots or 0.3:.0%} bots on top of what visitors ask for besides files: "
             "facet crawler, abuser, search engine; later on, a crawler of 200 addresses that looks like a browser and asks for "
             f"{crawler['crawler']} random filters in a second")
    return Scenario("bots", children, int(think * 1000), small(options), phases, users_max=users + 100, about=about)


def by_jmeter(options):
    return Scenario("jmeter", options.children or 8, 300 if options.quick else 5_000, small(options), [])


ALL = {"sale": sale, "overload": overload, "slow": slow, "bots": with_bots}
