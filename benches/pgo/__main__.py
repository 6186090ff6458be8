"""Builds Parvis with a profile: built to count, trained with a shop's requests, built again with what was counted.

  python3 benches/pgo                  all of it: two builds from the start, and a minute between
  python3 benches/pgo --check          says what is missing for it, and builds nothing
  python3 benches/pgo --train PROGRAM  trains with this program alone, a twentieth of it: to see that training works

The result is target/release-pgo/parvis. It does what the one of cargo build --release does, in fewer instructions on fewer
pages; docs/benchmarks.md has the figures. The profile counts how often each branch was taken, and has no data.

It needs Linux, Python 3.9, openssl, and llvm-profdata of the toolchain in use, which is a component of it:
rustup component add llvm-tools. Where rustup is there it is added.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "peers"), str(HERE.parent / "objects")]

import train
import visitors

COMPONENT = "llvm-tools"
CHECKED_SHARE = 0.05


def rustc(*arguments):
    return subprocess.run(["rustc", *arguments], check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout


def host():
    """The platform that is built for, which is this one."""
    return next(line.split(": ")[1] for line in rustc("-vV").splitlines() if line.startswith("host: "))


def profdata():
    """Where the toolchain has its llvm-profdata. Those of other versions do not read what it writes."""
    return Path(rustc("--print", "sysroot").strip()) / "lib/rustlib" / host() / "bin/llvm-profdata"


def missing():
    """What has to be there first, one line each."""
    absent = [f"{name} ({package})" for name, package in {"cargo": "https://rustup.rs", "rustc": "https://rustup.rs", "openssl": "package openssl"}.items()
              if not shutil.which(name)]
    if not absent and not profdata().exists():
        absent.append(f"{profdata()} (rustup component add {COMPONENT})")
    return absent


def add_component():
    """Adds llvm-profdata, where rustup says which toolchain this is."""
    if shutil.which("rustup") and shutil.which("rustc") and not profdata().exists():
        train.say(f"adding {COMPONENT}")
        subprocess.run(["rustup", "component", "add", COMPONENT], cwd=REPOSITORY)


def build(folder, flags):
    """Builds with these flags, which do not concern what runs during the build; the program's path."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder), "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()}
    command = ["cargo", "build", "--release", "--bin", "parvis", "--target", host()]
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL)
    train.say(f"built in {time.monotonic() - began:.0f} s")
    return folder / host() / "release/parvis"


def flags_with(profile):
    """What builds with this profile. Where the compiler knows how, parts of functions that were never run move out of the way."""
    splits = "-Cllvm-args=-enable-split-machine-functions"
    # Into a directory of its own: the compiler renames what it wrote onto the name that it is given.
    with tempfile.TemporaryDirectory() as folder:
        command = ["rustc", "-", "--crate-type", "lib", "--emit", "metadata", "--out-dir", folder, splits]
        probe = subprocess.run(command, input=b"", capture_output=True)
    return f"-Cprofile-use={profile}" + (f" {splits}" if probe.returncode == 0 else "")


def merge(raw, work):
    """The profile of all processes. Its name has its hash, for cargo does not look into it."""
    merged = work / "merged.profdata"
    subprocess.run([profdata(), "merge", "-o", merged, *raw.iterdir()], check=True)
    named = work / f"{hashlib.sha256(merged.read_bytes()).hexdigest()[:16]}.profdata"
    return merged.rename(named)


def whole(target):
    """All steps; the program's path."""
    work = target / "pgo"
    raw = work / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    train.say("1 of 3: building what counts")
    counting = build(work / "counting", f"-Cprofile-generate={raw}")
    train.say("2 of 3: training")
    train.train(counting, dict(os.environ))
    profile = merge(raw, work)
    train.say("3 of 3: building with the profile")
    built = build(work / "trained", flags_with(profile))
    result = target / "release-pgo/parvis"
    result.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(built, result)
    return result


def main():
    parser = argparse.ArgumentParser(prog="benches/pgo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("--train", type=Path, metavar="PROGRAM", help="only train with this program, and only briefly")
    options = parser.parse_args()
    if not options.check and not options.train:
        add_component()
    absent = [] if options.train else missing()
    if absent:
        sys.exit("missing: " + ", ".join(absent))
    if options.check:
        train.say("nothing is missing")
    try:
        if options.train:
            train.train(options.train.resolve(), dict(os.environ), CHECKED_SHARE)
        elif not options.check:
            target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve()
            train.say(f"{whole(target)} is ready")
    except (visitors.Failed, OSError) as problem:
        sys.exit(f"training failed: {problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(f"{problem.cmd[0]} failed with {problem.returncode}")


if __name__ == "__main__":
    main()
