"""The same journeys by JMeter, in front of Parvis: what each page took, and whether anything failed."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import stacks

PLAN = Path(__file__).resolve().parent / "parvis.jmx"
# Each session has these.
ALWAYS = {"static", "section"}
# JMeter's own format varies between versions.
COLUMNS = {"output_format": "csv", "print_field_names": "true", "label": "true", "response_code": "true", "successful": "true", "time": "true"}
BOTS_PER_MINUTE = {"facet": 120, "abuse": 60, "goodbot": 40}


# Debian's JMeter, by way of a script that mends what keeps it from reading plans.
HOME = Path("/usr/share/jmeter")
COMMAND = ["java", "-Xmx1g", f"-Djmeter.home={HOME}", "-cp", f"{HOME}/bin/ApacheJMeter.jar:{HOME}/lib/*:{HOME}/lib/ext/*:/usr/share/java/bsh.jar",
           "bsh.Interpreter", Path(__file__).resolve().with_name("jmeter.bsh")]


def require():
    if not shutil.which("java") or not (HOME / "lib/ext/ApacheJMeter_http.jar").exists():
        sys.exit("missing: jmeter (apt-get install --no-install-recommends jmeter jmeter-http)")


def run(options, work, house, stack, wanted):
    """Runs JMeter, prints a table, and gives the number of failed requests. Raises RuntimeError where pages were not asked for."""
    found = work.directory / "jmeter.csv"
    catalogue = wanted.catalogue
    users = options.users or 20
    properties = {
        "host": "127.0.0.1", "port": stack.port, "users": users, "ramp": 2 if options.quick else 20, "seconds": options.seconds,
        "think": wanted.think_ms, "thinkHalf": wanted.think_ms // 2, "categories": catalogue["categories"], "products": catalogue["products"],
        "words": catalogue["words"] - 1, "product": 1, "bots": 2 if options.quick or options.bots else 0, **BOTS_PER_MINUTE,
        **{f"jmeter.save.saveservice.{name}": value for name, value in COLUMNS.items()},
    }
    command = [*COMMAND, "-n", "-t", PLAN, "-l", found, "-j", work.directory / "jmeter.log", *(f"-J{name}={value}" for name, value in properties.items())]
    subprocess.run(command, check=True, cwd=work.directory)
    labels = {}
    with found.open() as lines:
        for row in csv.DictReader(lines):
            label = labels.setdefault(row["label"], {"times": [], "failed": {}})
            label["times"].append(int(row["elapsed"]))
            if row["success"] != "true":
                label["failed"][row["responseCode"]] = label["failed"].get(row["responseCode"], 0) + 1
    print(f"| page, by JMeter in front of {stacks.NAMES[stack.name]} | requests | median ms | p95 ms | failed |\n| --- | --- | --- | --- | --- |")
    for name, label in sorted(labels.items()):
        times = sorted(label["times"])
        failed = ", ".join(f"{count} with {code}" for code, count in label["failed"].items()) or "none"
        print(f"| {name} | {len(times)} | {times[len(times) // 2]} | {times[len(times) * 95 // 100]} | {failed} |")
    if absent := ALWAYS - labels.keys():
        said = (work.directory / "jmeter.log").read_text()[-2000:]
        raise RuntimeError(f"JMeter asked for no {', '.join(absent)}: {said}")
    return sum(sum(label["failed"].values()) for label in labels.values())
