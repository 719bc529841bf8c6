//! What this process uses, as Linux tells it under /proc. Owns reading it; what is shown of it is named elsewhere. Where
//! there is no /proc nothing is told.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use waymark_node::node::ProcessUsage;

/// As of now.
pub(super) fn now() -> Option<ProcessUsage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let most_files = getrlimit(Resource::Nofile).current;
    let units = (clock_ticks_per_second(), page_size() as u64);
    let stat = Stat::read(&stat, units)?;
    Some(ProcessUsage {
        cpu: stat.cpu,
        resident_bytes: stat.resident_bytes,
        virtual_bytes: stat.virtual_bytes,
        threads: stat.threads,
        // The folder is itself open while it is read.
        open_files: open_files.saturating_sub(1),
        most_files,
    })
}

/// What the line of /proc/self/stat says (`proc_pid_stat(5)`).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu: Duration,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

/// Of the fields after the name, which may hold spaces and brackets itself: the first one of them is the third of all.
const FIRST: usize = 3;

impl Stat {
    fn read(line: &str, (ticks, page): (u64, u64)) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - FIRST)?.parse::<u64>().ok();
        let (user, system) = (field(14)?, field(15)?);
        let millis = (user + system).saturating_mul(1000) / ticks.max(1);
        Some(Self {
            cpu: Duration::from_millis(millis),
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.saturating_mul(page),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 9 0 100 4096000 25 18446744073709551615 1";
        let seen = Stat::read(line, (100, 4096)).expect("a whole line");
        assert_eq!(seen.cpu, Duration::from_secs(2));
        assert_eq!((seen.threads, seen.virtual_bytes), (9, 4_096_000));
        assert_eq!(seen.resident_bytes, 25 * 4096);
        assert_eq!(Stat::read("7 (a) S 1", (100, 4096)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        let usage = now().expect("Linux tells");
        assert!(usage.resident_bytes > 1 << 20 && usage.threads > 0, "{usage:?}");
        assert!((3..10_000).contains(&usage.open_files), "{usage:?}");
    }
}
