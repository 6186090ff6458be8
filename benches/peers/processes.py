"""Processes: pinned to a core, found with all their children, timed by the kernel, and ended."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS_MAX = 30
END_SECONDS_MAX = 3
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def stat(process):
    """The fields of /proc/PID/stat from the state on, or None where there is no such process."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def family(leader):
    """The process, those of its session, and whatever descends from them: daemons leave sessions."""
    facts = {int(name): stat(name) for name in os.listdir("/proc") if name.isdigit()}
    found = {process for process, fields in facts.items() if fields and (process == leader or int(fields[3]) == leader)}
    while True:
        more = {process for process, fields in facts.items() if fields and int(fields[1]) in found} - found
        if not more:
            return found
        found |= more


def cpu_seconds(processes):
    """User and system time of these processes, those of their ended threads too."""
    return sum((int(fields[11]) + int(fields[12])) * TICK_SECONDS for fields in map(stat, processes) if fields)


def resident_bytes(processes):
    """Memory in use; what processes share counts once for each."""
    return sum(int(fields[21]) * PAGE_BYTES for fields in map(stat, processes) if fields)


def listens(address):
    """Whether something accepts connections at a port of 127.0.0.1, or at the path of a Unix socket."""
    try:
        if isinstance(address, int):
            socket.create_connection(("127.0.0.1", address), 0.2).close()
        else:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
        return True
    except OSError:
        return False


class Group:
    """Commands that serve together, pinned to one core; what they say goes to a file."""

    def __init__(self, commands, core, output, address):
        self.commands, self.core, self.output, self.address = commands, core, output, address
        self.leaders = []

    def start(self):
        """Starts the commands in their order, the next when the first listens. Raises RuntimeError."""
        if listens(self.address):
            raise RuntimeError(f"something else listens at {self.address}")
        for command in self.commands:
            with open(self.output, "ab") as output:
                pinned = ["taskset", "-c", str(self.core), *map(str, command)]
                self.leaders.append(
                    subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
                )
            self.wait()

    def wait(self):
        end = time.monotonic() + START_SECONDS_MAX
        while not listens(self.address):
            if self.leaders[0].poll() is not None or time.monotonic() > end:
                said = Path(self.output).read_text(errors="replace")[-1000:]
                raise RuntimeError(f"{self.commands[0][0]} does not listen at {self.address}: {said}")
            time.sleep(0.05)

    def processes(self):
        return set().union(*(family(leader.pid) for leader in self.leaders)) if self.leaders else set()

    def stop(self):
        """Ends all of them, gently first."""
        for which in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes():
                try:
                    os.kill(process, which)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + END_SECONDS_MAX
            while self.running() and time.monotonic() < end:
                time.sleep(0.05)
        self.leaders = []

    def running(self):
        for leader in self.leaders:
            leader.poll()  # or it stays as a zombie
        return [process for process in self.processes() if (fields := stat(process)) and fields[0] != "Z"]
