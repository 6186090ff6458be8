"""The servers that are compared: how each is started, and what it can."""

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import bench
import content
import template

FIRST_PORT = 28100
PORTS_EACH = 10
OPEN_FILES_MAX = 50_000
PACKAGES = {
    "nginx": ("nginx", "nginx"),
    "varnish": ("varnishd", "varnish"),
    "haproxy": ("haproxy", "haproxy"),
    "squid": ("squid", "squid-openssl"),
    "trafficserver": ("traffic_server", "trafficserver"),
}
# In the order of their ports.
NAMES = ("limit", "parvis", *PACKAGES, "parvis-fastcgi", "nginx-pass", "php")
VERSIONS = {"nginx": "-v", "varnish": "-V", "haproxy": "-v", "squid": "-v", "trafficserver": "-V", "parvis": "--version"}


@dataclass
class Server:
    """A server under test. `abilities` are of http, tls, h2 and esi."""

    name: str
    commands: list
    ports: dict
    abilities: set
    output: Path
    logs: list
    group: object = None

    def start(self, run):
        """Starts it on the servers' core. Raises RuntimeError."""
        self.group = run.start(self.commands, run.options.server_core, self.output, self.ports["http"])

    def empty_logs(self):
        """Logs are in memory and grow by millions of lines."""
        for log in self.logs:
            if log.exists():
                with log.open("r+") as file:
                    file.truncate(0)


class Plan:
    """What a server's configuration is made of."""

    def __init__(self, run, name, switches, store_mib, more=None):
        self.run, self.name = run, name
        self.switches = set(switches) | {"log" if run.options.log else "nolog"} | ({"root"} if is_root() else set())
        self.directory = run.scratch(run.directory)
        self.memory = run.scratch(run.memory)
        first = FIRST_PORT + PORTS_EACH * NAMES.index(name)
        self.ports = {"http": first, "tls": first + 1, "control": first + 2, "fastcgi": first + 3}
        self.log = self.memory / "access.log"
        self.output = self.memory / "output"
        self.values = {
            **self.ports, "directory": self.directory, "memory": self.memory, "log": self.log, "origin": bench.ORIGIN_PORT,
            "store_mib": store_mib, "store_bytes": store_mib << 20, "host": content.HOST,
            "certificate": run.chain, "key": run.key, "pem": run.pem, "root": self.directory, "log_directory": self.memory,
            "open_files": min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, OPEN_FILES_MAX), **(more or {}),
        }

    def file(self, name, template_name):
        return template.write(self.directory / name, template_name, self.switches, self.values)

    def server(self, commands, abilities, logs=()):
        return Server(self.name, commands, self.ports, set(abilities.split()), self.output, [self.log, *logs])


def is_root():
    return os.geteuid() == 0


def nginx(plan):
    command = [program("nginx"), "-c", plan.file("nginx.conf", "nginx.conf")]
    return plan.server([command], "http tls h2")


def varnish(plan):
    work = plan.directory / "work"
    vcl = plan.file("shop.vcl", "varnish.vcl")
    commands = [[program("varnishd"), "-F", "-n", work, "-a", f"127.0.0.1:{plan.ports['http']}", "-f", vcl,
                 "-s", f"malloc,{plan.values['store_mib']}m", "-p", "thread_pools=1", "-p", "thread_pool_min=100",
                 "-p", "timeout_idle=600"]]
    if "log" in plan.switches:
        commands.append([program("varnishncsa"), "-n", work, "-a", "-w", plan.log])
    return plan.server(commands, "http esi")


def haproxy(plan):
    # It has no log file of its own, and sends lines to syslog: they go to its output here.
    command = [program("haproxy"), "-db", "-f", plan.file("haproxy.cfg", "haproxy.cfg")]
    return plan.server([command], "http tls h2", [plan.output])


def squid(plan):
    name = program("squid")
    built = subprocess.run([name, "-v"], capture_output=True, text=True).stdout
    with_tls = "--with-openssl" in built or "--with-gnutls" in built
    plan.switches |= {"tls"} if with_tls else set()
    command = [name, "-N", "-n", "peers", "-f", plan.file("squid.conf", "squid.conf")]
    return plan.server([command], "http tls" if with_tls else "http")


def trafficserver(plan):
    etc = plan.values["etc"] = plan.directory / "etc"
    for name in ("records.config", "remap.config", "shop.rules", "storage.config", "ssl_multicert.config"):
        plan.file(f"etc/{name}", f"trafficserver/{name}")
    for source in Path("/etc/trafficserver").iterdir():  # the rest as Debian has it, which logs in a binary format
        if source.is_file() and not (etc / source.name).exists():
            shutil.copy(source, etc)
    for folder in (plan.memory / "trafficserver", *(plan.directory / name for name in ("var", "run", "cache"))):
        folder.mkdir()
        folder.chmod(0o777)
    for file in ("certificate.pem", "key.pem"):
        shutil.copy(plan.run.directory / file, plan.directory)
    run_root = plan.file("runroot.yaml", "trafficserver/runroot.yaml")
    return plan.server([[program("traffic_server"), f"--run-root={run_root}"]], "http tls h2", [plan.memory / "squid.blog"])


def parvis(plan):
    plan.switches.add("http")
    return plan.server([[plan.run.options.parvis, "run", "--config", plan.file("parvis.toml", "parvis.toml")]], "http tls h2 esi")


def limit(plan):
    return plan.server([[plan.run.limit_program, plan.ports["http"], plan.run.served]], "http")


MAKERS = {"limit": limit, "parvis": parvis, "nginx": nginx, "varnish": varnish, "haproxy": haproxy, "squid": squid,
          "trafficserver": trafficserver}


def program(name):
    """The path of a program; Debian has daemons where a user's PATH has not."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def missing(name):
    """Why a server cannot be compared here, or None."""
    if name in PACKAGES and not program(PACKAGES[name][0]):
        return f"{name}: not installed (apt-get install {PACKAGES[name][1]}), left out"
    return None


def version(name, options):
    """The first line of what it says of itself."""
    if name not in VERSIONS:
        return ""
    command = options.parvis if name == "parvis" else program(PACKAGES[name][0])
    said = subprocess.run([command, VERSIONS[name]], capture_output=True, text=True)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def start_all(run, switches, store_mib):
    """Starts the limit, Parvis and all peers that are there and wanted; says whom it leaves out."""
    started = []
    for name, make in MAKERS.items():
        if run.options.only and name not in run.options.only and name != "limit":
            continue
        if reason := missing(name):
            print(reason)
            continue
        server = make(Plan(run, name, switches, store_mib))
        try:
            server.start(run)
            started.append(server)
        except RuntimeError as problem:
            print(f"{name}: left out, {problem}")
    return started
