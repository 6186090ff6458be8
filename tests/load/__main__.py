"""The load test: visitors and bots in front of Parvis and its peers, with a shop in PHP behind them, in one run on this machine.

  python3 tests/load all                  every scenario in front of every server, about an hour
  python3 tests/load overload sale        these scenarios alone
  python3 tests/load all --quick          a smoke run: figures of no worth, in some minutes
  python3 tests/load report               the report and the tables of what was measured
  python3 tests/load jmeter               the same visitors by JMeter (tests/load/parvis.jmx; apt-get install jmeter)

Scenarios, each with PHP-FPM, Redis and one server started anew for each server by turns; one that is run again replaces its
figures in --results:
  sale      10,000 visitors at once who think for 10 s, on a warm cache, children sized for what cannot be cached
  overload  8 children, offered five times what they can do, most of it by bots and by visitors with rare filters
  slow      PHP suddenly twice as slow, then back; Parvis also with fixed limits, to find the best of them
  bots      visitors, then a facet crawler, an abuser and a search engine on top

It needs Linux, Python 3.9, Rust (for the generator, tests/load/generator), php-fpm with php-redis, redis-server, and whichever
peers are to be compared (varnish, nginx); --install fetches what is missing with apt. Parvis has to be built: cargo build
--release. How it measures is in docs/load-test.md.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "benches/peers"))

import content
import processes
import servers

import jmeter
import report
import scenarios
import shop
import stacks
import table
import watch

GENERATOR = HERE / "generator"
# Ports of each for connections to one server.
SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
HOLD_SECONDS, QUICK_SECONDS = 90, 4
PACKAGES = ["php-fpm", "php-redis", "redis-server", "varnish", "nginx"]


def arguments():
    parser = argparse.ArgumentParser(prog="tests/load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="+", choices=[*scenarios.ALL, "all", "report", "jmeter"], metavar="SCENARIO", help=f"{', '.join(scenarios.ALL)}, all, report, or jmeter")
    parser.add_argument("--servers", default=",".join(stacks.NAMES), help="these alone, as parvis,nginx (all)")
    parser.add_argument("--seconds", type=int, default=HOLD_SECONDS, help=f"of the phase that counts ({HOLD_SECONDS})")
    parser.add_argument("--users", type=int, help="of sale (10000) and bots (1000)")
    parser.add_argument("--children", type=int, help="of PHP-FPM (by the scenario)")
    parser.add_argument("--bots", type=float, default=0.0, help="requests of bots on top of visitors' in sale and bots, as 0.3")
    parser.add_argument("--patience", type=float, default=30, help="seconds after which visitors give a request up (30)")
    parser.add_argument("--limits", help="fixed limits of Parvis that slow tries, as 4,8,16")
    parser.add_argument("--no-log", dest="log", action="store_false", help="access logs off in all servers; they are on by default")
    parser.add_argument("--parvis", default=content.REPOSITORY / "target/release/parvis", type=Path, help="the program (target/release/parvis)")
    parser.add_argument("--results", default=content.REPOSITORY / "target/load.json", type=Path, help="where figures are kept (target/load.json)")
    parser.add_argument("--report", default=content.REPOSITORY / "target/load.html", type=Path, help="where the report goes (target/load.html)")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parser.add_argument("--note", default="", help="a remark for the report, as: before admission")
    parser.add_argument("--quick", action="store_true", help="few visitors for seconds: to see that it works")
    parser.add_argument("--install", action="store_true", help="install what is missing with apt-get, as root")
    options = parser.parse_args()
    if options.quick and options.seconds == HOLD_SECONDS:
        options.seconds = QUICK_SECONDS
    options.parvis = options.parvis.resolve()
    options.servers = options.servers.split(",")
    if unknown := set(options.servers) - set(stacks.NAMES):
        parser.error(f"no such server: {', '.join(unknown)}")
    return options


class Run:
    """Scratch folders and processes of one server's run; at its end all have gone."""

    def __init__(self, options):
        self.options, self.closing = options, contextlib.ExitStack()

    def __enter__(self):
        self.directory = self.scratch(None)
        # The shop, logs and stored pages are in memory, so that no disk decides. Programs may not be allowed to run there.
        self.memory = self.scratch("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        return self

    def __exit__(self, *failure):
        return self.closing.__exit__(*failure)

    def scratch(self, parent):
        path = Path(tempfile.mkdtemp(prefix="load-", dir=parent))
        path.chmod(0o777)  # some servers leave root
        self.closing.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def start(self, commands, output, address):
        """Starts a group of processes on all cores that ends with the run."""
        group = processes.Group(commands, f"0-{os.cpu_count() - 1}", output, address)
        self.closing.callback(group.stop)
        group.start()
        return group


def build_generator():
    """Builds it in a directory of its own, and gives its path."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", content.REPOSITORY / "target")) / "load"
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", GENERATOR / "Cargo.toml", "--target-dir", target]
    subprocess.run(command, check=True)
    return target / "release/parvis-load"


def generate(program, run, plan, wanted, house, stack):
    """Runs the generator beside a watch; its results with what was watched."""
    plan_file, results_file = run.directory / "plan.json", run.directory / "results.json"
    plan_file.write_text(json.dumps(plan))
    with subprocess.Popen([program, "run", plan_file, results_file], stdout=subprocess.PIPE, text=True) as process:
        run.closing.callback(process.kill)
        watching = watch.Watch(house, stack, process.pid)
        watching.start()
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "began":
                watching.began = float(rest)
            if word == "phase":
                house.pace(wanted.paces.get(rest, 1))
            if word != "began":
                print(f"    {line.strip()}", flush=True)
        rows = watching.stop()
    if process.returncode:
        raise RuntimeError(f"the generator failed: {process.returncode}")
    return {**json.loads(results_file.read_text()), "watch": rows, "plan": plan}


def run_one(program, options, wanted, server):
    """One scenario in front of one server, as parvis, or parvis:8 with a fixed limit."""
    with Run(options) as run:
        house, stack = up(options, run, wanted, server)
        plan = {
            "target": f"127.0.0.1:{stack.port}", "host": content.HOST, "sources": SOURCES, "think_ms": wanted.think_ms,
            "patience_ms": int(options.patience * 1000), "users_max": wanted.users_max, "bot_connections_max": 2_000, "seed": content.SEED,
            "catalogue": wanted.catalogue, "warm": True, "phases": wanted.phases,
        }
        return generate(program, run, plan, wanted, house, stack)


def up(options, run, wanted, server):
    """Starts a server and the shop behind it."""
    name, _, limit = server.partition(":")
    options.switches = switches(options, run, bool(limit)) if name == "parvis" else set()
    house = shop.Shop(run.scratch(run.memory), wanted.children, name in stacks.WITH_ESI)
    return house, stacks.start(run, name, house, int(limit) if limit else None)


def run_jmeter(options):
    """JMeter in front of Parvis; the number of failed requests."""
    jmeter.require()
    wanted = scenarios.by_jmeter(options)
    with Run(options) as run:
        return jmeter.run(options, run, *up(options, run, wanted, "parvis"), wanted)


def switches(options, run, is_fixed):
    """Of Parvis' configuration: versions before admission by class have a fixed limit alone."""
    probe = run.directory / "probe.toml"
    probe.write_text("[admission]\nadaptive = false\n")
    if subprocess.run([options.parvis, "check", "--config", probe], capture_output=True).returncode:
        return set()
    return {"admission", "fixed"} if is_fixed else {"admission"}


def run_scenario(program, options, wanted, results):
    busy = os.getloadavg()[0]
    kind = "A smoke run of no worth" if options.quick else f"Load average {busy:.1f} before it"
    known = results["scenarios"].get(wanted.name, {"runs": {}})
    limits = options.limits.split(",") if options.limits else map(str, wanted.limits)
    chosen = [server for server in options.servers if not (reason := stacks.missing(server)) or print(reason)]
    if "parvis" in chosen:
        chosen += [f"parvis:{limit}" for limit in limits if wanted.limits]
    for server in chosen:
        print(f"== {wanted.name}: {table.name_of(server)}", flush=True)
        known["runs"][server] = run_one(program, options, wanted, server)
        known |= {"about": wanted.about, "when": f"{kind}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC", "note": options.note}
        results["scenarios"][wanted.name] = known
        save(options, results)


def save(options, results):
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(results))


def machine():
    """Processor, cores and kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), os.uname().machine)
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}"


def require(options):
    """Ends with what is missing."""
    absent = shop.missing()
    if not options.parvis.exists():
        absent.append(f"{options.parvis} (cargo build --release)")
    wanted = (options.users or 10_000) + 2_000
    if not options.quick and shop.open_files_max() < wanted:
        absent.append(f"{wanted} open files (ulimit -n)")
    if absent:
        sys.exit("missing: " + ", ".join(absent) + "; --install fetches packages")


def main():
    options = arguments()
    if options.install:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True, env=environment)
        print("Debian may have started some as services, which would disturb: systemctl stop nginx varnish redis-server php8.2-fpm")
    chosen = list(scenarios.ALL) if "all" in options.scenarios else [name for name in options.scenarios if name in scenarios.ALL]
    results = {"scenarios": {}, **(json.loads(options.results.read_text()) if options.results.exists() else {})}
    if "jmeter" in options.scenarios:
        require(options)
        if failed := run_jmeter(options):
            sys.exit(f"JMeter: {failed} requests failed")
        if not chosen:
            return
    if chosen:
        require(options)
        shop.open_files_max()
        program = build_generator()
        described = json.loads(subprocess.run([program, "describe"], check=True, capture_output=True, text=True).stdout)
        results["machine"] = machine()
        present = [name for name in stacks.NAMES if not stacks.missing(name)]
        results["versions"] = {name: servers.version(name, options) for name in present}
    for name in chosen:
        run_scenario(program, options, scenarios.ALL[name](options, described), results)
    if not results["scenarios"]:
        sys.exit(f"nothing has been measured yet: {options.results} has no figures")
    options.report.write_text(report.html(results))
    tables = table.markdown(results)
    if options.markdown:
        options.markdown.write_text(tables)
    print(tables)
    print(f"The report with charts: {options.report}")


if __name__ == "__main__":
    main()
