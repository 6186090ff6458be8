"""Load on a server, and what it cost: wrk and h2load at saturation, our own generator at a fixed rate."""

import json
import os
import re
import resource
import subprocess
import time

import content
import processes

TLS_CIPHER = "TLS_AES_256_GCM_SHA384"  # what wrk and all servers agree on; h2load would choose another
H2_STREAMS = 4
SETTLE_SECONDS = 0.1


class LoadFailed(Exception):
    """A generator did not say what it should."""


def pinned(run, command, environment=None):
    """Runs a generator on its core; its output. What it says of its progress is seen at once."""
    command = ["taskset", "-c", str(run.options.generator_core), *map(str, command)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    if done.returncode:
        raise LoadFailed(f"{command[3]} ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def generator_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(run, server, generate):
    """What `generate` counted, with the CPU time that it took the server, the generator and the origin."""
    own, origins = server.group.processes(), run.origin.processes()
    before = processes.cpu_seconds(own), processes.cpu_seconds(origins), generator_seconds()
    figures = generate()
    after = processes.cpu_seconds(own), processes.cpu_seconds(origins), generator_seconds()
    requests = max(figures["requests"], 1)
    for name, start, end in zip(("cpu_us", "origin_cpu_us", "generator_cpu_us"), before, after):
        figures[name] = (end - start) * 1e6 / requests
    figures["resident_mib"] = processes.resident_bytes(own) / 2**20
    server.empty_logs()
    time.sleep(SETTLE_SECONDS)
    return figures


def number(pattern, text, missing=None):
    found = re.search(pattern, text)
    if not found and missing is None:
        raise LoadFailed(f"no {pattern} in {text}")
    return float(found[1]) if found else missing


def in_bytes(pattern, text):
    """A size as the generators write it, with its unit."""
    found = re.search(pattern, text)
    if not found:
        raise LoadFailed(f"no {pattern} in {text}")
    return float(found[1]) * 1024 ** "BKMGT".index(found[2][0].upper())


def field_arguments(fields):
    return [argument for name, value in fields for argument in ("-H", f"{name}: {value}")]


def wrk(run, server, protocol, target, fields, script=None, environment=None):
    """HTTP/1.1 at saturation, in cleartext or over TLS."""
    scheme = "https" if protocol == "tls" else "http"
    command = ["wrk", "-t1", f"-c{run.options.connections}", f"-d{run.options.seconds}s", "--latency",
               *(["-s", script] if script else []), *field_arguments(fields),
               f"{scheme}://127.0.0.1:{server.ports[protocol]}{target}"]

    def generate():
        said = pinned(run, command, environment)
        failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
        for counts in re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said):
            failed += sum(map(int, counts))
        requests = number(r"(\d+) requests in", said)
        return {"requests": requests, "rps": number(r"Requests/sec:\s+([\d.]+)", said), "bad": failed,
                "bytes": in_bytes(r"requests in [\d.]+\w+, ([\d.]+)(\w+) read", said) / max(requests, 1)}

    return measured(run, server, generate)


def h2load(run, server, target, fields):
    """HTTP/2 over TLS at saturation, with as many requests under way as wrk has."""
    fields = [(name, value) for name, value in fields if name != "Host"]
    command = ["h2load", "-t1", f"-c{max(run.options.connections // H2_STREAMS, 1)}", f"-m{H2_STREAMS}", f"-D{run.options.seconds}",
               f"--tls13-ciphers={TLS_CIPHER}", *field_arguments(fields),
               f"--connect-to=127.0.0.1:{server.ports['tls']}", f"https://{content.HOST}{target}"]

    def generate():
        said = pinned(run, command)
        if "Application protocol: h2" not in said:
            raise LoadFailed(f"no HTTP/2: {said}")
        requests = number(r"(\d+) succeeded", said)
        return {"requests": requests, "rps": number(r"finished in [\d.]+\w+, ([\d.]+) req/s", said),
                "bad": number(r"(\d+) failed", said), "bytes": in_bytes(r"traffic: ([\d.]+)(\w+)", said) / max(requests, 1)}

    return measured(run, server, generate)


def openloop(run, address, rate, requests, seconds=None, until_close=False, connections=None):
    """Our generator at a fixed rate; rate 0 sends each request once."""
    command = [run.openloop_program, address, rate, seconds or run.options.seconds, connections or run.options.connections, requests]
    return json.loads(pinned(run, [*command, *(["until-close"] if until_close else [])]))


def timed(run, server, rate, requests):
    """The times of responses at a fixed rate, with the CPU time of the server."""
    return measured(run, server, lambda: openloop(run, server.ports["http"], rate, requests))
