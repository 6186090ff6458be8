"""Builds both packages, and installs, upgrades and removes them on a machine with systemd: `python3 tests/packages [BINARY]`.

Needs root for the second half (namespaces), cargo-deb, and rpm, lintian and logrotate of Debian.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import machine
import visitors

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHOP = "/srv/shop/pub"
CONFIGURATION = "/etc/parvis/parvis.toml"

CONFIGURATION_FILES = {
    "./etc/logrotate.d/parvis": "-rw-r--r--",
    "./etc/parvis/parvis.toml": "-rw-r--r--",
    "./etc/needrestart/restart.d/parvis.service": "-rwxr-xr-x",
}
FILES = {
    "./usr/bin/parvis": "-rwxr-xr-x",
    "./usr/lib/systemd/system/parvis.service": "-rw-r--r--",
    "./usr/lib/systemd/system/parvis.socket": "-rw-r--r--",
    "./usr/lib/systemd/system/parvis-restart.service": "-rw-r--r--",
    "./usr/share/doc/parvis/README.md": "-rw-r--r--",
    "./usr/share/doc/parvis/docs/operations.md": "-rw-r--r--",
    "./usr/share/doc/parvis/config/parvis.toml": "-rw-r--r--",
}
DEB_ALONE = {
    "./usr/share/doc/parvis/copyright": "-rw-r--r--",
    "./usr/share/doc/parvis/changelog.Debian.gz": "-rw-r--r--",
    "./usr/share/doc/parvis/third-party-licences.txt": "-rw-r--r--",
}
RPM_ALONE = {
    "./etc/logrotate.d/parvis": "-rw-r--r--",
    "./usr/share/licenses/parvis/LICENSE": "-rw-r--r--",
    "./usr/share/licenses/parvis/third-party-licences.txt": "-rw-r--r--",
}


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout


def package(directory, binary, revision, only):
    command = ["packaging/build", "--fast", "--binary", binary, "--output", directory, "--revision", revision, "--only", only]
    return output(*command).strip()


def the_deb_has_what_it_must(deb):
    lines = [line.split() for line in output("dpkg-deb", "--contents", deb).splitlines()]
    found = {line[5]: line[0] for line in lines}
    assert all(line[1] in ("0/0", "root/root") for line in lines), lines
    assert found.items() >= (CONFIGURATION_FILES | FILES | DEB_ALONE).items(), found
    conffiles = output("sh", "-c", f"dpkg-deb --ctrl-tarfile {deb} | tar -xO ./conffiles").split()
    assert sorted(conffiles) == sorted(path[1:] for path in CONFIGURATION_FILES), conffiles
    assert "libc6" in output("dpkg-deb", "--field", deb, "Depends")
    changelog = (REPOSITORY / "packaging/deb/changelog").read_text().split()[1].strip("()")
    assert output("dpkg-deb", "--field", deb, "Version").strip() == changelog, changelog
    errors = subprocess.run(["lintian", "--allow-root", "--fail-on", "error", deb], stdout=subprocess.PIPE, text=True)
    assert errors.returncode == 0, errors.stdout


def the_rpm_has_what_it_must(rpm):
    lines = output("rpm", "-qp", "--queryformat", "[.%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME}\n]", rpm)
    found = dict(line.split(" ", 1) for line in lines.splitlines())
    expected = {path: f"{mode} root/root" for path, mode in (FILES | RPM_ALONE).items()}
    expected["./etc/parvis/parvis.toml"] = "-rw-r----- root/apache"
    assert found.items() >= expected.items(), found
    assert output("rpm", "-qp", "--configfiles", rpm).split() == ["/etc/logrotate.d/parvis", CONFIGURATION]
    requires = output("rpm", "-qp", "--requires", rpm)
    assert "httpd-filesystem" in requires and "libc.so.6(GLIBC_" in requires, requires


def is_installed_and_waits(host, user):
    """What an installation has done: nothing runs, and the configuration says what is missing."""
    assert host.tries("systemctl", "is-active", "parvis.service").stdout == "inactive\n"
    assert host.tries("systemctl", "is-enabled", "parvis.service").stdout == "disabled\n"
    assert host.runs("stat", "--format=%a %U:%G", CONFIGURATION) == f"640 root:{user}\n"
    for unit in ("parvis.service", "parvis-restart.service"):
        assert (host.property(unit, "User"), host.property(unit, "Group")) == (user, user)
    units = [f"/usr/lib/systemd/system/{unit}" for unit in ("parvis.service", "parvis.socket", "parvis-restart.service")]
    said = host.tries("systemd-analyze", "verify", "--man=no", *units).stdout
    assert "parvis" not in said, said
    check = ["runuser", "-u", user, "--", "parvis", "check", "--config", CONFIGURATION]
    missing = host.tries(*check)
    assert missing.returncode == 2 and missing.stdout.count("\n") == 1 and "origin.root" in missing.stdout, missing.stdout
    # The one edit, and a shop to serve.
    host.runs("sed", "-i", f's#^root = .*#root = "{SHOP}"#', CONFIGURATION)
    host.runs("sh", "-c", f"mkdir -p {SHOP}/media && echo here > {SHOP}/media/page.txt")
    host.runs(*check)
    # So that a stop does not take the test ten seconds.
    host.runs("sh", "-c", f'printf "[lifecycle]\\ndrain = \\"0\\"\\n" >> {CONFIGURATION}')
    host.runs("systemctl", "enable", "--now", "parvis.service")
    assert host.runs("curl", "-sSf", "http://127.0.0.1:6081/media/page.txt") == "here\n"
    for directory in ("/var/lib/parvis", "/var/log/parvis"):
        assert host.runs("stat", "--format=%U", directory) == f"{user}\n"


def while_visitors_come(host, action):
    """The answers that were right and those that were not, while something happens."""
    host.runs("rm", "-f", visitors.STOP)
    asking = host.starts("/usr/bin/python3", "-c", pathlib.Path(visitors.__file__).read_text())
    time.sleep(0.5)
    said = action()
    time.sleep(0.5)
    host.runs("touch", visitors.STOP)
    right, wrong = map(int, asking.communicate()[0].split())
    assert right > 0
    return wrong, said


def an_upgrade_takes_over(host, *upgrade):
    before = host.property("parvis.service", "MainPID")
    wrong, _ = while_visitors_come(host, lambda: host.runs(*upgrade))
    assert wrong == 0, f"{wrong} visitors got nothing during {upgrade}"
    assert host.property("parvis.service", "MainPID") != before, "the new version does not serve"
    assert SHOP in host.runs("cat", CONFIGURATION), "the configuration was written over"
    # The next one must not find the last but one still there.
    host.until("the earlier process has ended", lambda: host.tries("test", "-e", f"/proc/{before}").returncode != 0)


def a_stop_and_start_is_noticed(host):
    """What the test above would see, did an upgrade stop and start it."""
    wrong, _ = while_visitors_come(host, lambda: host.runs("systemctl", "restart", "parvis.service"))
    assert wrong > 0


def a_wrong_configuration_stops_no_upgrade(host, *upgrade):
    host.runs("sed", "-i", "s/^drain = /drian = /", CONFIGURATION)
    before = host.property("parvis.service", "MainPID")
    wrong, said = while_visitors_come(host, lambda: host.runs(*upgrade))
    assert wrong == 0 and "the earlier process serves on" in said, said
    assert host.property("parvis.service", "MainPID") == before
    host.runs("sed", "-i", "s/^drian = /drain = /", CONFIGURATION)


def a_policy_forbids_the_restart(host, *upgrade):
    policy = "/usr/sbin/policy-rc.d"
    host.runs("sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {policy} && chmod 755 {policy}")
    before = host.property("parvis.service", "MainPID")
    host.runs(*upgrade)
    assert host.property("parvis.service", "MainPID") == before
    host.runs("rm", policy)


def the_log_is_rotated(host):
    page = ["curl", "-sSf", "http://127.0.0.1:6081/media/page.txt"]
    log = "/var/log/parvis/access.log"
    host.runs(*page)
    host.until("a line is written", lambda: host.tries("test", "-s", log).returncode == 0)
    # A mistake in the configuration keeps no log from being rotated.
    host.runs("sed", "-i", "s/^drain = /drian = /", CONFIGURATION)
    host.runs("logrotate", "--force", "/etc/logrotate.d/parvis")
    host.runs("sed", "-i", "s/^drian = /drain = /", CONFIGURATION)
    host.until("the log is opened again", lambda: host.tries("test", "-e", log).returncode == 0)
    host.runs(*page)
    host.until("a line is written there", lambda: host.tries("test", "-s", log).returncode == 0)
    assert host.tries("test", "-s", f"{log}.1").returncode == 0


def left(host):
    """What is there of it."""
    places = "/etc /usr/bin /usr/lib/systemd /usr/share/doc /usr/share/licenses /var /run"
    return sorted(host.tries("sh", "-c", f"find {places} -name '*parvis*' 2>/dev/null").stdout.split())


def the_deb_lives_and_goes(host, debs):
    install = ["dpkg", "--install"]
    host.runs(*install, debs[0])
    is_installed_and_waits(host, "www-data")
    an_upgrade_takes_over(host, *install, debs[1])
    assert host.runs("dpkg-query", "--show", "--showformat=${Version}", "parvis").endswith("-2")
    an_upgrade_takes_over(host, "/etc/needrestart/restart.d/parvis.service")
    a_stop_and_start_is_noticed(host)
    a_wrong_configuration_stops_no_upgrade(host, *install, debs[1])
    a_policy_forbids_the_restart(host, *install, debs[1])
    the_log_is_rotated(host)
    host.runs("dpkg", "--remove", "parvis")
    assert host.tries("pgrep", "-x", "parvis").returncode == 1, "it still runs"
    assert CONFIGURATION in left(host) and "/var/lib/parvis" in left(host), "gone before it is purged"
    host.runs("dpkg", "--purge", "parvis")
    assert left(host) == [], left(host)


def the_rpm_lives_and_goes(host, rpms):
    # Debian's rpm knows no packages of Red Hat's; the user is httpd-filesystem's there.
    options = ["--force-debian", "--nodeps"]
    host.runs("useradd", "--system", "--user-group", "apache")
    host.runs("rpm", "--install", *options, rpms[0])
    is_installed_and_waits(host, "apache")
    an_upgrade_takes_over(host, "rpm", "--upgrade", *options, rpms[1])
    a_wrong_configuration_stops_no_upgrade(host, "rpm", "--upgrade", "--replacepkgs", "--oldpackage", *options, rpms[0])
    the_log_is_rotated(host)
    host.runs("rpm", "--erase", *options, "parvis")
    assert host.tries("pgrep", "-x", "parvis").returncode == 1, "it still runs"
    # As rpm does it: what was changed stays aside, and what a service has written stays.
    kept = ["/etc/parvis", f"{CONFIGURATION}.rpmsave", "/var/lib/parvis", "/var/log/parvis"]
    assert left(host) == kept, left(host)


def main():
    binary = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "target/debug/parvis").resolve())
    directory = tempfile.mkdtemp()
    try:
        debs = [package(directory, binary, revision, "deb") for revision in "12"]
        the_deb_has_what_it_must(debs[0])
        rpms = [package(directory, binary, revision, "rpm") for revision in "12"]
        the_rpm_has_what_it_must(rpms[0])
        again = f"{directory}/again"
        for path, only in ((debs[0], "deb"), (rpms[0], "rpm")):
            assert pathlib.Path(package(again, binary, "1", only)).read_bytes() == pathlib.Path(path).read_bytes(), f"{only}: another file"
        print("the packages have what they must")
        if not machine.is_possible():
            print("skipped: installing them (no right to make namespaces and an overlay)")
            return
        with machine.Machine() as host:
            host.runs("mkdir", "/tmp/packages")
            paths = [host_path(host, path) for path in debs + rpms]
            the_deb_lives_and_goes(host, paths[:2])
            print("the Debian package installs, takes over, and goes")
            the_rpm_lives_and_goes(host, paths[2:])
            print("the RPM installs, takes over, and goes")
    finally:
        shutil.rmtree(directory)


def host_path(host, path):
    """A copy of a file on the machine."""
    name = f"/tmp/packages/{pathlib.Path(path).name}"
    with open(path, "rb") as file:
        assert host.starts("sh", "-c", f"cat > {name}", stdin=file).wait() == 0
    return name


main()
