//! Does this machine have what the settings name?

use std::fs;
use std::path::{Path, PathBuf};

use super::mistake::Problem;
use super::reader::Reader;
use super::units::format_size;
use super::{AccessLog, PolicyKind, Settings};

/// The share of the memory there is that the store may take, in percent. The rest is for connections,
/// responses under way and the allocator.
const STORE_SHARE_PERCENT: u128 = 90;

/// Notes what is missing.
pub(super) fn check(settings: &Settings, memory_limit_bytes: Option<u64>, reader: &mut Reader) {
    check_files(settings, reader);
    let memory_bytes = settings.store.memory_bytes;
    if let Some(limit_bytes) = memory_limit_bytes
        && !reader.is_refused("store.memory")
        && u128::from(memory_bytes) * 100 > u128::from(limit_bytes) * STORE_SHARE_PERCENT
    {
        let what = format!(
            "{} is more than {STORE_SHARE_PERCENT} % of {}, which is all the memory this process \
             may use",
            format_size(memory_bytes),
            format_size(limit_bytes >> 20 << 20)
        );
        let most = u128::from(limit_bytes) * STORE_SHARE_PERCENT / 100;
        let allowed = format!("up to {}MiB", most >> 20);
        reader.blame("store.memory", Problem::Refused { what, allowed });
    }
}

/// Notes each file and directory that cannot be used.
pub(super) fn check_files(settings: &Settings, reader: &mut Reader) {
    if !settings.listen.https.is_empty() {
        expect("tls.certificate", &settings.tls.certificate, readable_file, reader);
        expect("tls.key", &settings.tls.key, readable_file, reader);
    }
    if settings.origin.fastcgi.is_some() {
        let root = match settings.site.policy {
            PolicyKind::Magento => magentos_pub,
            PolicyKind::Generic => readable_directory,
        };
        expect("origin.root", &settings.origin.root, root, reader);
        for link in &settings.origin.links {
            expect("origin.links", link, readable_directory, reader);
        }
    }
    let pages = &settings.error_pages.directory;
    expect("error_pages.directory", pages, readable_directory, reader);
    expect("redis.authority", &settings.redis.authority, readable_file, reader);
    let peers = &settings.fleet.peers;
    expect("fleet.certificate", &peers.certificate, readable_file, reader);
    expect("fleet.key", &peers.key, readable_file, reader);
    expect("fleet.authority", &peers.authority, readable_file, reader);
    expect("listen.body_directory", &settings.listen.body_directory, writable_directory, reader);
    let sessions = &settings.sessions;
    if sessions.listen.is_some() && settings.sessions_redis().is_none() {
        let directory = sessions.journal.parent().unwrap_or(&sessions.journal);
        expect("sessions.journal", directory, writable_directory, reader);
    }
    if let AccessLog::File(path) = &settings.log.access {
        if path.exists() {
            expect("log.access", path, writable_file, reader);
        } else {
            expect("log.access", path.parent().unwrap_or(path), writable_directory, reader);
        }
    }
}

fn expect(
    key: &str,
    path: &Path,
    test: fn(&Path) -> std::io::Result<&'static str>,
    reader: &mut Reader,
) {
    if path.as_os_str().is_empty() {
        return;
    }
    if let Some(what) = fault(path, test) {
        reader.blame(key, Problem::Machine(format!("{}: {what}", path.display())));
    }
}

fn fault(path: &Path, test: fn(&Path) -> std::io::Result<&'static str>) -> Option<String> {
    match test(path) {
        Ok("") => None,
        Ok(what) => Some(what.to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Why no files can be made in a directory; `None`: they can.
pub fn why_not_writable(directory: &Path) -> Option<String> {
    fault(directory, writable_directory)
}

fn readable_file(path: &Path) -> std::io::Result<&'static str> {
    let is_file = fs::File::open(path)?.metadata()?.is_file();
    Ok(if is_file { "" } else { "not a file" })
}

fn readable_directory(path: &Path) -> std::io::Result<&'static str> {
    fs::read_dir(path).map(|_| "")
}

/// Magento works with its own directory as the root, too, and then everybody gets what lies there.
fn magentos_pub(path: &Path) -> std::io::Result<&'static str> {
    readable_directory(path)?;
    let is_whole = path.join("app/etc").is_dir() || path.join("bin/magento").is_file();
    Ok(if is_whole {
        "is all of Magento, whose logs, backups and auth.json everybody would get; its directory pub is \
         the root"
    } else {
        ""
    })
}

fn writable_file(path: &Path) -> std::io::Result<&'static str> {
    if path.is_dir() {
        return Ok("not a file");
    }
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?;
    Ok("")
}

fn writable_directory(path: &Path) -> std::io::Result<&'static str> {
    if !fs::metadata(path)?.is_dir() {
        return Ok("not a directory");
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(path, access)?;
    Ok("")
}

/// The bytes of memory that this process can have: what its control group may use, itself or by its
/// parents (version 2 and version 1), and what the machine has. `None` where neither can be read.
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|groups| limit_bytes(&groups, Path::new("/sys/fs/cgroup")));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    group.into_iter().chain(machine).min()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// A limit that version 1 reports for "none" is the largest multiple of the page size.
const UNLIMITED_BYTES: u64 = 1 << 62;

fn limit_bytes(groups: &str, mount: &Path) -> Option<u64> {
    groups.lines().filter_map(|line| group_limit_bytes(line, mount)).min()
}

/// The limit of one line of `/proc/self/cgroup`, which is `ID:CONTROLLERS:PATH`.
fn group_limit_bytes(line: &str, mount: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file): (PathBuf, _) = if controllers.is_empty() {
        (mount.to_owned(), "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (mount.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // A path seen from another namespace begins with `..`; within a container the mount itself
    // is then this process' group. A parent's limit binds its children too.
    let path = path.trim_start_matches('/');
    let is_inside = !path.split('/').any(|part| part == "..");
    let own = if is_inside { root.join(path) } else { root.clone() };
    let groups = own.ancestors().take_while(|group| group.starts_with(&root));
    let limits = groups.filter_map(|group| fs::read_to_string(group.join(file)).ok());
    limits
        .filter_map(|text| text.trim().parse().ok())
        .filter(|limit| *limit < UNLIMITED_BYTES)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Endpoint;
    use crate::settings::mistake::Mistakes;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    #[test]
    fn the_least_limit_of_the_group_and_its_parents_counts() {
        let mount = tempfile::tempdir().expect("creates");
        write(mount.path(), "system.slice/parvis.service/memory.max", "max\n");
        write(mount.path(), "system.slice/memory.max", "1073741824\n");
        write(mount.path(), "other/memory.max", "1\n");
        let limit = limit_bytes("0::/system.slice/parvis.service\n", mount.path());
        assert_eq!(limit, Some(1 << 30));
        assert_eq!(limit_bytes("0::/../other\n", mount.path()), None);
    }

    #[test]
    fn version_1_of_control_groups_is_read_too() {
        let mount = tempfile::tempdir().expect("creates");
        write(mount.path(), "memory/a/memory.limit_in_bytes", "536870912\n");
        write(mount.path(), "memory/memory.limit_in_bytes", "9223372036854771712\n");
        let groups = "4:memory:/a\n1:cpu,cpuacct:/b\n0::/\n";
        assert_eq!(limit_bytes(groups, mount.path()), Some(512 << 20));
        // In a container the path is the host's, and the mount is the group itself.
        assert_eq!(limit_bytes("4:memory:/docker/x\n", mount.path()), None);
        write(mount.path(), "memory/memory.limit_in_bytes", "1024\n");
        assert_eq!(limit_bytes("4:memory:/docker/x\n", mount.path()), Some(1024));
        for text in ["", "nonsense", "0:", "0::", "::", "4:memory:"] {
            assert!(limit_bytes(text, Path::new("/nowhere")).is_none());
        }
    }

    #[test]
    fn a_machine_without_a_control_group_has_a_limit_too() {
        let total = |text| total_bytes(text);
        assert_eq!(total("MemTotal:        4001024 kB\nMemFree: 1 kB\n"), Some(4_001_024 << 10));
        for text in ["", "MemFree: 1 kB\n", "MemTotal: much kB\n", "MemTotal: 12\n"] {
            assert_eq!(total(text), None, "{text}");
        }
        assert!(memory_limit_bytes().is_some());
    }

    fn mistakes(settings: &Settings, limit_bytes: Option<u64>) -> Option<Mistakes> {
        let mut reader = Reader::default();
        check(settings, limit_bytes, &mut reader);
        reader.finish().err()
    }

    #[test]
    fn a_store_above_90_percent_of_the_limit_is_a_mistake() {
        let mut settings = Settings::default();
        settings.store.memory_bytes = 900 << 20;
        assert_eq!(mistakes(&settings, None), None);
        assert_eq!(mistakes(&settings, Some(1_000 << 20)), None);
        let mistakes = mistakes(&settings, Some(999 << 20)).expect("too much");
        assert_eq!(
            mistakes.to_string(),
            "store.memory: 900MiB is more than 90 % of 999MiB, which is all the memory this \
             process may use; allowed: up to 899MiB"
        );
    }

    #[test]
    fn missing_files_and_directories_are_named() {
        let directory = tempfile::tempdir().expect("creates");
        write(directory.path(), "file", "");
        let file = directory.path().join("file");
        let mut settings = Settings::default();
        settings.listen.https = vec![Endpoint::Unix("/run/x.sock".into())];
        settings.tls.certificate = directory.path().join("none.pem");
        settings.tls.key.clone_from(&file);
        settings.origin.fastcgi = Some(Endpoint::Unix("/run/php.sock".into()));
        settings.origin.root.clone_from(&file);
        settings.origin.links = vec![directory.path().join("none")];
        settings.listen.body_directory.clone_from(&file);
        settings.log.access = AccessLog::File(directory.path().join("none/access.log"));
        let mistakes = settings.verify_files().expect_err("five are wrong");
        let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        let expected = [
            "listen.body_directory",
            "log.access",
            "origin.links",
            "origin.root",
            "tls.certificate",
        ];
        assert_eq!(keys, expected);
        assert!(mistakes.to_string().contains("none.pem: No such file or directory"));
    }
    #[test]
    fn all_of_magento_is_no_root_of_a_shop_and_its_pub_is_one() {
        let directory = tempfile::tempdir().expect("creates");
        write(directory.path(), "app/etc/env.php", "<?php");
        write(directory.path(), "pub/index.php", "<?php");
        let mut settings = Settings::default();
        settings.origin.fastcgi = Some(Endpoint::Unix("/run/php.sock".into()));
        settings.origin.root = directory.path().into();
        let mistakes = settings.verify_files().expect_err("it is all of it").to_string();
        assert!(
            mistakes.starts_with("origin.root: ") && mistakes.contains("auth.json"),
            "{mistakes}"
        );
        settings.site.policy = PolicyKind::Generic;
        assert_eq!(settings.verify_files(), Ok(()));
        settings.site.policy = PolicyKind::Magento;
        settings.origin.root = directory.path().join("pub");
        assert_eq!(settings.verify_files(), Ok(()));
    }

    #[test]
    fn an_access_log_that_is_a_directory_is_named() {
        let directory = tempfile::tempdir().expect("creates");
        let mut settings = Settings::default();
        settings.log.access = AccessLog::File(directory.path().into());
        let mistakes = settings.verify_files().expect_err("it is one").to_string();
        assert!(
            mistakes.starts_with("log.access: ") && mistakes.ends_with("not a file"),
            "{mistakes}"
        );
        settings.log.access = AccessLog::File(directory.path().join("access.log"));
        assert_eq!(settings.verify_files(), Ok(()));
        write(directory.path(), "access.log", "");
        assert_eq!(settings.verify_files(), Ok(()));
    }
}
