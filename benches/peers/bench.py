"""What all parts of a run share: its options, its scratch folders, its programs, its certificate, its origin."""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import content
import processes

PROGRAMS = Path(__file__).resolve().parent / "programs"
ORIGIN_PORT = 28099


class Bench:
    """A run. Use it as a context manager: at the end all that it started has ended and its scratch is gone."""

    def __init__(self, options):
        self.options = options
        self.closing = contextlib.ExitStack()

    def __enter__(self):
        self.directory = self.scratch(None)
        # Logs and stored pages are in memory, so that no disk decides; programs may not be allowed to run there.
        self.memory = self.scratch("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.limit_program, self.openloop_program = self.build("limit"), self.build("openloop")
        self.certificate()
        self.served = None
        return self

    def __exit__(self, *failure):
        return self.closing.__exit__(*failure)

    def scratch(self, parent):
        path = Path(tempfile.mkdtemp(prefix="peers-", dir=parent))
        path.chmod(0o777)  # some peers leave root
        self.closing.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def build(self, name):
        program = self.directory / name
        subprocess.run(["gcc", "-O2", "-o", program, PROGRAMS / f"{name}.c"], check=True)
        return program

    def certificate(self):
        """A key on P-256, the same for all."""
        self.chain, self.key, self.pem = (self.directory / name for name in ("certificate.pem", "key.pem", "both.pem"))
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", f"/CN={content.HOST}", "-addext", f"subjectAltName=DNS:{content.HOST}",
                   "-keyout", self.key, "-out", self.chain]
        subprocess.run(command, check=True, capture_output=True)
        self.pem.write_bytes(self.chain.read_bytes() + self.key.read_bytes())
        for file in (self.chain, self.key, self.pem):
            file.chmod(0o644)

    def start(self, commands, core, output, address):
        """Starts a group of processes that ends with the run."""
        group = processes.Group(commands, core, output, address)
        self.closing.callback(group.stop)
        group.start()
        return group

    def serve(self, answers):
        """Starts the origin with these answers; the limit serves the same file."""
        health = content.response([("Cache-Control", "no-store")], b"ok")
        self.served = content.write_answers(self.memory / "answers", itertools.chain(answers, [(content.HEALTH, health)]))
        command = [self.limit_program, ORIGIN_PORT, self.served]
        self.origin = self.start([command], self.options.origin_core, self.directory / "origin.out", ORIGIN_PORT)
        return self.origin
