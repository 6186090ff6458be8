"""A machine to install packages on: this one's files below an overlay that forgets, with a systemd of its own.

Its systemd is the first process of namespaces, and has no unit but those that a test wants.
"""

import pathlib
import shutil
import subprocess
import tempfile
import time

NAMESPACES = ["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup"]

# What is written stays in memory. What this machine has of Parvis, and units that its targets want, are not wanted here; nor is a
# policy that forbids to start and stop services.
START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$ROOT"
mkdir "$ROOT/upper" "$ROOT/work" "$ROOT/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$ROOT/upper,workdir=$ROOT/work" "$ROOT/root"
cd "$ROOT/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir tmp/before
rm -rf lib/systemd/system/*.target.wants etc/systemd/system/* usr/sbin/policy-rc.d
rm -rf usr/bin/parvis etc/logrotate.d/parvis etc/parvis var/lib/parvis var/log/parvis
ip link set lo up
pivot_root . tmp/before
umount -l tmp/before
exec env -i PATH="$PATH" container=other /lib/systemd/systemd --system --unit=basic.target --log-target=null
"""


class Machine:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="parvis-packages-")
        self.log = open(pathlib.Path(self.directory).with_suffix(".log"), "w+")
        command = ["unshare", *NAMESPACES, "sh", "-c", START]
        environment = {"ROOT": self.directory, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.unshare = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def __enter__(self):
        try:
            self.until("systemd runs", lambda: self.tries("systemctl", "is-active", "basic.target").stdout == "active\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.tries("systemctl", "stop", "parvis.socket", "parvis.service")
        self.unshare.kill()
        self.unshare.wait()
        self.log.close()
        pathlib.Path(self.log.name).unlink()
        shutil.rmtree(self.directory)

    def starts(self, *command, **options):
        """Starts a command in there."""
        children = pathlib.Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children").read_text().split()
        first = children[0] if children else "none"
        enter = ["nsenter", "--target", first, "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        return subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)

    def tries(self, *command):
        """Runs a command in there, to its end."""
        process = self.starts("timeout", "100", *command)
        return subprocess.CompletedProcess(command, stdout=process.communicate()[0], returncode=process.returncode)

    def runs(self, *command):
        """What a command says, which must succeed."""
        done = self.tries(*command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            self.log.flush()
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{pathlib.Path(self.log.name).read_text()}"
            time.sleep(0.1)

    def property(self, unit, name):
        return self.runs("systemctl", "show", "--value", "--property", name, unit).strip()


def is_possible():
    """May namespaces and an overlay be made here?"""
    overlay = "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root"
    steps = ["mount --make-rprivate /", "mount -t tmpfs tmpfs /mnt", "mkdir /mnt/upper /mnt/work /mnt/root", overlay]
    trial = ["unshare", *NAMESPACES, "sh", "-c", " && ".join(steps)]
    return subprocess.run(trial, capture_output=True).returncode == 0
