"""Beside the load, each second: what PHP does, whose CPU it takes, and what Parvis says of itself."""

import re
import threading
import time
import urllib.request

import processes

# Of Parvis' metrics these are kept.
KEPT = re.compile(r"^parvis_(?:origin|admission|fill|sessions_queued|sessions_locks|requests_total|reasons_total|store_objects)\w*(?:\{[^}]*\})?$")
METRICS_MAX = 400


def metrics(port):
    """The metrics that are kept, by name and labels; or nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as told:
            lines = told.read().decode().splitlines()
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        if KEPT.match(name) and "_bucket" not in name and len(found) < METRICS_MAX:
            found[name] = float(value)
    return found


class Watch(threading.Thread):
    """Takes a row each second from `began` (a time of the clock) on, until it is told to stop."""

    def __init__(self, shop, stack, generator):
        super().__init__(daemon=True)
        self.shop, self.stack, self.generator = shop, stack, generator
        self.rows, self.over = [], threading.Event()
        self.began = None
        # Found once: to look for families each second would take more time than what is watched.
        self.families = {
            "server": set().union(*(group.processes() for group in stack.groups)),
            "php": shop.php_group.processes(), "redis": shop.redis_group.processes(), "generator": {generator},
        }

    def run(self):
        before, at = self.cpu(), time.time()
        while not self.over.wait(max(0.0, 1 - (time.time() - at))):
            now, cpu = time.time(), self.cpu()
            spent = {name: round((cpu[name] - before[name]) / (now - at), 3) for name in cpu}
            row = {"t": now, "cpu": spent, "php": self.shop.in_php()}
            if self.stack.control:
                row["metrics"] = metrics(self.stack.control)
            self.rows.append(row)
            before, at = cpu, now

    def cpu(self):
        return {name: processes.cpu_seconds(family) for name, family in self.families.items()}

    def stop(self):
        self.over.set()
        self.join()
        began = self.began or (self.rows[0]["t"] if self.rows else 0)
        for row in self.rows:
            row["t"] = round(row["t"] - began, 2)
        return [row for row in self.rows if row["t"] > 0]
