"""What a run says in a few figures."""

# Slower than so many times its unloaded time, a request is not served as before.
SLOWER_MAX = 1.5
# All is well again when that holds for so many seconds.
WELL_SECONDS = 3
OF_SHOPPERS = ("private", "checkout")
FILES = ("static", "image")
CACHEABLE = ("home", "category", "product", "search")


def phase_of(run, name):
    return next((phase for phase in run["phases"] if phase["name"] == name), None)


def percentile(phase, group, which):
    """In milliseconds, or None where nothing was answered."""
    times = phase["groups"].get(group)
    return times["percentiles"][which] / 1000 if times else None


def errors_of(phase, kinds=None):
    """Errors by what was wrong."""
    found = {}
    for kind, counts in phase["errors"].items():
        if kinds is None or kind in kinds:
            for what, count in counts.items():
                found[what] = found.get(what, 0) + count
    return found


def answered(phase, kinds=None):
    return sum(entry["times"]["count"] for entry in phase["kinds"] if kinds is None or entry["kind"] in kinds)


def uncacheable(phase):
    """The share of requests that no cache may answer, of visitors."""
    bots = ("facet", "crawler", "abuse", "goodbot")
    everything = sum(entry["times"]["count"] for entry in phase["kinds"] if entry["kind"] not in bots)
    private = sum(entry["times"]["count"] for entry in phase["kinds"] if entry["kind"] not in (*bots, *FILES, *CACHEABLE, "filter", "raresearch"))
    return private / everything if everything else 0.0


def measured_seconds(run, name):
    planned = next(phase for phase in run["plan"]["phases"] if phase["name"] == name)
    return planned["seconds"] - planned.get("settle_seconds", 0)


def goodput(run, name):
    """Children whose work visitors and bots got in time, on average."""
    phase = phase_of(run, name)
    return phase["php_ms"] / 1000 / measured_seconds(run, name)


def php_for_bots(phase):
    """The share of PHP's time that bots had."""
    return phase["php_ms_of"].get("bot", 0) / phase["php_ms"] if phase["php_ms"] else 0.0


CHECKOUT_KINDS = ("checkout", "estimate", "address", "payment", "success")


def success(phase, kinds):
    """The share of requests that came, or None where there were none."""
    good, bad = answered(phase, kinds), sum(errors_of(phase, kinds).values())
    return good / (good + bad) if good + bad else None


def begins(run, name):
    """When the phase begins, in seconds."""
    at = 0.0
    for phase in run["plan"]["phases"]:
        if phase["name"] == name:
            return at
        at += phase["seconds"]
    return at


def recovery(run, name, usual_ms):
    """Seconds from the phase's begin until shoppers are served as before, or None where they never are."""
    first = int(begins(run, name))
    well = 0
    for second, row in enumerate(run["seconds"][first:]):
        times = [row["groups"][group][2] / 1000 for group in OF_SHOPPERS if group in row["groups"]]
        failed = sum(row["failed"].get(group, 0) for group in OF_SHOPPERS)
        well = well + 1 if times and not failed and max(times) <= SLOWER_MAX * usual_ms else 0
        if well == WELL_SECONDS:
            return second + 1 - WELL_SECONDS
    return None


def mean_cpu(run, name):
    """Cores that each took while the phase was measured."""
    end = begins(run, name) + next(phase["seconds"] for phase in run["plan"]["phases"] if phase["name"] == name)
    rows = [row["cpu"] for row in run["watch"] if end - measured_seconds(run, name) <= row["t"] <= end]
    return {part: sum(row[part] for row in rows) / len(rows) for part in rows[0]} if rows else {}


def limit_follows(run, name, metric="parvis_admission_limit"):
    """Seconds from the phase's begin until the limit is within a tenth of its median in the phase's second half; None without a metric."""
    begin = begins(run, name)
    end = begin + next(phase["seconds"] for phase in run["plan"]["phases"] if phase["name"] == name)
    rows = [(row["t"] - begin, row["metrics"][metric]) for row in run["watch"] if begin <= row["t"] <= end and metric in row.get("metrics", {})]
    late = sorted(value for at, value in rows if at > (end - begin) / 2)
    if not late:
        return None
    settled = late[len(late) // 2]
    return next((at for at, value in rows if abs(value - settled) <= max(1, settled / 10)), None)
