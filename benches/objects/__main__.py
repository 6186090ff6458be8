"""The object cache beside redis-server, in one run: CPU time of a command, and how long commands take at half load.

  cargo build --release
  python3 benches/objects                       about three minutes; prints a table
  python3 benches/objects --rounds 1 --seconds 0.3    shows that it works, its figures are worth nothing
  python3 benches/objects --only HGET --keep    leaves the servers running for a profiler, until Enter

It needs Linux, two cores that nothing else uses, Python 3.9, rustc, taskset and redis-server. Each server has the first
core for itself while it is asked, the generator the second. CPU time is what the kernel counted for all threads of a server;
ratios are taken within a round, in which both are measured in turn, another one first each time. What is asked: HGET, HMSET
and SADD with the sizes that Magento's cache has, and the commands of recorded page views (tests/corpus/objects), over 16
connections, as PHP asks: one command, one reply. At half load commands are due at fixed times, whatever came back, at half of
the rate that the slower of the two reaches.
"""

import argparse
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
from commands import loads, pack

REPOSITORY = Path(__file__).resolve().parents[2]
CONNECTIONS = 16


class Server:
    """A server on the first core."""

    def __init__(self, name, command, socket):
        self.name, self.socket = name, socket
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(["taskset", "-c", "0", *map(str, command)], stdout=quiet, stderr=quiet)
        for _ in range(500):
            if socket.exists():
                return
            time.sleep(0.02)
        sys.exit(f"{name} does not answer")

    def cpu_seconds(self):
        """Of all its threads, in user and kernel."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def end(self):
        self.process.kill()
        self.process.wait()


def start(directory, parvis):
    config = directory / "parvis.toml"
    ours, theirs = directory / "parvis.sock", directory / "redis.sock"
    config.write_text(
        f'[listen]\nhttp = ["127.0.0.1:0"]\ncontrol = "unix:{directory}/control"\n[log]\naccess = "off"\n'
        f'[origin]\nhttp = "127.0.0.1:1"\n[health]\nprobe = ""\n[store]\nmemory = "64MiB"\n'
        f'[objects]\nlisten = "unix:{ours}"\n'
    )
    redis = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", theirs]
    return [Server("Parvis", [parvis, "run", "--config", config], ours), Server("redis-server", redis, theirs)]


class Generator:
    """What asks, on the second core."""

    def __init__(self, directory):
        self.directory, self.program = directory, directory / "generator"
        source = Path(__file__).with_name("generator.rs")
        subprocess.run(["rustc", "--edition", "2024", "-O", "-o", self.program, source], check=True)

    def file(self, name, commands):
        path = self.directory / name
        path.write_bytes(b"".join(struct.pack("<I", len(command)) + command for command in commands))
        return path

    def run(self, server, commands, connections, seconds, rate):
        arguments = [self.program, server.socket, commands, connections, seconds, rate]
        before = server.cpu_seconds()
        said = subprocess.run(["taskset", "-c", "1", *map(str, arguments)], check=True, capture_output=True, text=True)
        cpu = server.cpu_seconds() - before
        done, elapsed, p50, p99 = map(float, said.stdout.split())
        return {"cpu": cpu / max(done, 1) * 1e6, "rate": done / elapsed, "p50": p50, "p99": p99}


def measure(generator, servers, before, commands, options):
    """Rounds of both servers: CPU and rate as fast as it goes, and times at half load."""
    before, commands = generator.file("before", [pack("FLUSHALL"), *before, *commands]), generator.file("commands", commands)
    for server in servers:
        generator.run(server, before, 1, 0, 0)
    rounds = []
    for number in range(options.rounds):
        order = servers if number % 2 == 0 else servers[::-1]
        fast = {it.name: generator.run(it, commands, CONNECTIONS, options.seconds, 0) for it in order}
        rate = min(it["rate"] for it in fast.values()) / 2
        slow = {it.name: generator.run(it, commands, CONNECTIONS, options.seconds, rate) for it in order}
        rounds.append({it.name: {"fast": fast[it.name], "half": slow[it.name], "rate": rate} for it in servers})
    return rounds


def row(name, rounds):
    def of(server, load, what):
        return statistics.median(it[server][load][what] for it in rounds)

    def ratio(load, what):
        ratios = sorted(it["Parvis"][load][what] / it["redis-server"][load][what] for it in rounds)
        quarter = len(ratios) // 4
        return f"**{statistics.median(ratios):.2f}** ({ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f})"

    cells = [name]
    for load, what, form in (("fast", "rate", "{:,.0f}"), ("fast", "cpu", "{:.2f} us"), ("half", "cpu", "{:.2f} us"), ("half", "p99", "{:.0f} us")):
        cells += [form.format(of(server, load, what)) for server in ("Parvis", "redis-server")]
        cells.append(ratio(load, what))
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(prog="benches/objects", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="of each figure; the table has medians, and where the middle half of them lies (21)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of load for a figure (0.4)")
    parser.add_argument("--only", default="", help="this load alone, as HGET")
    parser.add_argument("--parvis", type=Path, default=REPOSITORY / "target/release/parvis", help="the program (target/release/parvis)")
    parser.add_argument("--keep", action="store_true", help="leave the servers running until Enter, and say their processes")
    options = parser.parse_args()
    if not options.parvis.is_file():
        sys.exit(f"{options.parvis} is not there: cargo build --release")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed")
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        generator, servers = Generator(directory), start(directory, options.parvis)
        try:
            print("|  | commands/s, Parvis | redis-server | ratio | CPU of a command, Parvis | redis-server | ratio ", end="")
            print("| CPU at half load, Parvis | redis-server | ratio | p99 at half load, Parvis | redis-server | ratio |")
            print("| --- " + "| ---: " * 12 + "|")
            for name, (before, commands) in loads().items():
                if options.only in ("", name):
                    print(row(name, measure(generator, servers, before, commands, options)), flush=True)
            if options.keep:
                input(", ".join(f"{it.name} is process {it.process.pid} at {it.socket}" for it in servers))
        finally:
            for server in servers:
                server.end()


main()
