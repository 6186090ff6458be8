//! What the system says of this process: memory, descriptors, processor time.

use std::fs;

use super::readings::{Reading, Readings};

/// Ticks of a second in `/proc/PID/stat`: the same on all machines (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Notes what can be read; what cannot is not shown.
pub fn show(readings: &mut Readings) {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).ok();
    if let Some(bytes) = read("status").and_then(|text| resident_bytes(&text)) {
        readings.set(Reading::ProcessResident, bytes);
    }
    if let Some(milliseconds) = read("stat").and_then(|text| cpu_milliseconds(&text)) {
        readings.set(Reading::ProcessCpu, milliseconds);
    }
    if let Some(count) = open_descriptors() {
        readings.set(Reading::ProcessDescriptors, count);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        readings.set(Reading::ProcessDescriptorsLimit, limit);
    }
}

/// `VmRSS` of `/proc/PID/status`, which is in KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The 14th and 15th field of `/proc/PID/stat`: ticks in the program and in the system. The second field is
/// the program's name in parentheses, which may hold anything.
fn cpu_milliseconds(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks = behind_name.split_ascii_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let sum = next()?.checked_add(next()?)?;
    sum.checked_mul(1_000 / TICKS_PER_SECOND)
}

/// Since Linux 6.2 the directory's size is their number; before, they have to be counted.
fn open_descriptors() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => Some(fs::read_dir(directory).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read_as_the_system_writes_them() {
        assert_eq!(resident_bytes("Name:\tparvis\nVmRSS:\t   21740 kB\n"), Some(21_740 << 10));
        assert_eq!(resident_bytes("Name:\tparvis\n"), None);
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 7 0 0 0 150 31 0 0 20 0 3 0 100 1 2";
        assert_eq!(cpu_milliseconds(stat), Some(1_810));
        for text in ["", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 4194304 7 0 0 0 x 31"] {
            assert_eq!(cpu_milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let mut readings = Readings::default();
        show(&mut readings);
        let shown: Vec<_> = readings.iter().collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(shown.iter().all(|(reading, value)| *value > 0 || *reading == Reading::ProcessCpu));
    }
}
