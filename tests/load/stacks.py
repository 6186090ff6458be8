"""What stands in front of the shop: Parvis; Varnish with nginx behind it, as Magento has it; nginx alone."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

import servers
import template

HERE = Path(__file__).resolve().parent
NAMES = {"parvis": "Parvis", "varnish": "Varnish + nginx", "nginx": "nginx"}
PACKAGES = {"parvis": [], "varnish": [("varnishd", "varnish"), ("nginx", "nginx")], "nginx": [("nginx", "nginx")]}
# Of these the menu is a fragment.
WITH_ESI = {"parvis", "varnish"}


@dataclass
class Stack:
    """Servers that are up, the port that visitors come to, and the port of Parvis' metrics."""

    name: str
    port: int
    control: int = 0
    groups: list = field(default_factory=list)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing(name):
    """Why it cannot be compared here, or None."""
    absent = [package for program, package in PACKAGES[name] if not servers.program(program)]
    return f"{NAMES[name]}: left out, not installed (apt-get install {' '.join(absent)})" if absent else None


def render(run, shop, name, switches, values):
    switches = {*switches, *({"root"} if servers.is_root() else set()), "log" if run.options.log else "nolog"}
    return template.write(shop.directory / name, HERE / "templates" / name, switches, values)


def start(run, name, shop, limit=None):
    """Starts a stack, and the shop behind it. `limit`: of requests in PHP, where not all children are to be used (Parvis alone)."""
    ports = {"http": free_port(), "control": free_port(), "nginx": free_port()}
    values = {
        **ports, "directory": shop.directory, "memory": run.memory, "log": run.memory / f"{name}.log", "php": shop.php, "status": shop.status, "pub": shop.pub,
        "sessions": shop.sessions, "redis": shop.redis, "limit": limit or shop.children,
    }
    return {"parvis": parvis, "varnish": varnish, "nginx": nginx}[name](run, shop, values)


def parvis(run, shop, values):
    # PHP has its sessions in Parvis, which has them in Redis: so Redis comes first, PHP last.
    shop.start(run, shop.sessions)
    config = render(run, shop, "parvis.toml", run.options.switches, values)
    command = [run.options.parvis, "run", "--config", config]
    group = run.start([command], shop.directory / "parvis.out", values["http"])
    return Stack("parvis", values["http"], values["control"], [group])


def nginx(run, shop, values, switches=("cache",)):
    shop.start(run, shop.redis)
    if "cache" in switches:
        values["nginx"] = values["http"]
    config = render(run, shop, "nginx.conf", set(switches), values)
    group = run.start([[servers.program("nginx"), "-c", config]], shop.directory / "nginx.out", values["nginx"])
    return Stack("nginx", values["nginx"], 0, [group])


def varnish(run, shop, values):
    behind = nginx(run, shop, values, ())
    work = run.directory / "varnish"
    vcl = render(run, shop, "varnish.vcl", set(), values)
    # Magento's documents ask for room for its long heads; the rest is as it comes.
    command = [servers.program("varnishd"), "-F", "-n", work, "-a", f"127.0.0.1:{values['http']}", "-f", vcl, "-s", "malloc,1024m",
               "-p", "http_resp_hdr_len=65536", "-p", "http_resp_size=131072", "-p", "workspace_backend=262144", "-p", "timeout_idle=600"]
    commands = [command]
    if run.options.log:
        commands.append([servers.program("varnishncsa"), "-n", work, "-a", "-w", run.memory / "varnish.log"])
    group = run.start(commands, shop.directory / "varnish.out", values["http"])
    return Stack("varnish", values["http"], 0, [group, *behind.groups])
