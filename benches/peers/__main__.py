"""Parvis beside its peers, in one run on this machine.

  python3 benches/peers all                   everything, about 27 minutes
  python3 benches/peers plain page            these parts alone
  python3 benches/peers all --quick           a smoke run: figures of no worth, in two minutes
  python3 benches/peers report --chart x.svg  the tables and the chart of what was measured

Parts, each with its own start of all servers; a part that is run again replaces its figures in --results:
  plain    hits of 1, 24 and 150 KiB with a short head, HTTP/1.1
  page     hits of a shop's page (24 KiB in gzip, a head of 5 KiB as recorded, a browser's request): HTTP/1.1, with an
           ESI menu (Varnish and Parvis), over TLS 1.3, over HTTP/2
  zipf     hits among 100,000 URLs with 40 tags each, asked by Zipf's law
  latency  times of the page's hits at fixed rates, from an open-loop generator
  idle     memory of an idle connection: HTTP/1.1, TLS, HTTP/2
  pass     what a proxy adds to the time of PHP-FPM and of an HTTP origin: Parvis and nginx

It needs Linux, two cores that nothing else uses, Python 3.9, gcc, openssl and wrk; h2load (Debian: nghttp2-client) for
HTTP/2, php-fpm for the pass part, and whichever peers are to be compared. --install fetches all of them with apt.
Parvis has to be built: cargo build --release. How it measures is in docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import chart
import content
import idle
import parts
import passing
import report
import servers

PARTS = {"plain": parts.plain, "page": parts.page, "zipf": parts.zipf, "latency": parts.latency, "idle": idle.idle, "pass": passing.passes}
TOOLS = {"taskset": "util-linux", "gcc": "gcc", "openssl": "openssl", "wrk": "wrk"}
PACKAGES = ["util-linux", "gcc", "libc6-dev", "openssl", "wrk", "nghttp2-client", "php-fpm"]
QUICK = {"rounds": 1, "seconds": 1, "urls": 2_000}


def arguments():
    parser = argparse.ArgumentParser(prog="benches/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all", "report"], metavar="PART", help=f"{', '.join(PARTS)}, all, or report")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; the tables have medians (5)")
    parser.add_argument("--seconds", type=int, default=3, help="of load for a figure (3)")
    parser.add_argument("--connections", type=int, default=64, help="of the generator (64)")
    parser.add_argument("--urls", type=int, default=100_000, help="of the zipf part (100000); each takes 8 KiB in each server")
    parser.add_argument("--only", default="", help="these servers alone, as parvis,nginx; the limit always runs")
    parser.add_argument("--no-log", dest="log", action="store_false", help="access logs off in all servers; they are on by default")
    parser.add_argument("--parvis", default=content.REPOSITORY / "target/release/parvis", type=Path, help="the program (target/release/parvis)")
    parser.add_argument("--cores", default="", help="of server, generator and origin, as 0,1,2 (0,1 and 2 where there is a third)")
    parser.add_argument("--results", default=content.REPOSITORY / "target/peers.json", type=Path, help="where figures are kept (target/peers.json)")
    parser.add_argument("--chart", type=Path, help="write the chart to this SVG file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s, 2,000 URLs: to see that it works")
    parser.add_argument("--install", action="store_true", help="install what is missing with apt-get, as root")
    options = parser.parse_args()
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args()
    options.only = set(filter(None, options.only.split(",")))
    options.parvis = options.parvis.resolve()
    chosen = [int(core) for core in options.cores.split(",")] if options.cores else list(range(min(os.cpu_count(), 3)))
    if len(chosen) < 2:
        parser.error("two cores are needed, one for the server and one for the generator")
    options.server_core, options.generator_core, options.origin_core = chosen[0], chosen[1], chosen[-1]
    return options


def install():
    """Installs all tools and peers."""
    packages = [*PACKAGES, *(package for _, package in servers.PACKAGES.values())]
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], check=True, env=environment)
    print("Debian may have started some as services, which would disturb: systemctl stop nginx varnish haproxy squid trafficserver")


def machine():
    """Processor, kernel and system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def load_results(options):
    """What earlier runs measured."""
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    return {"parts": {}, "measured": {}, "versions": {}, **known}


def require(options):
    """Ends with what is missing."""
    absent = [f"{tool} (package {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if not options.parvis.exists():
        absent.append(f"{options.parvis} (cargo build --release)")
    if absent:
        sys.exit("missing: " + ", ".join(absent) + "; --install fetches packages")


def main():
    options = arguments()
    if options.install:
        install()
    chosen = list(PARTS) if "all" in options.parts else [part for part in options.parts if part != "report"]
    results = load_results(options)
    if chosen:
        require(options)
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # nginx keeps the files of its pages open
        results["machine"] = machine()
        results["versions"] = {name: servers.version(name, options) for name in report.ORDER if not servers.missing(name)}
    for part in chosen:
        print(f"== {part}", flush=True)
        results["parts"][part] = PARTS[part](options)
        results["measured"][part] = {name: getattr(options, name) for name in ("rounds", "seconds", "connections", "log")}
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(results, indent=1))
    if not results["parts"]:
        sys.exit(f"nothing has been measured yet: {options.results} has no figures")
    tables = report.markdown(results)
    if options.markdown:
        options.markdown.write_text(tables)
    if options.chart:
        options.chart.write_text(chart.svg(results))
    print(tables)


if __name__ == "__main__":
    main()
