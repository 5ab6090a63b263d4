//! What this process may do and use: user, groups, file creation mask, processors, memory.
//!
//! Comes in: what the system tells of it; goes out: [`Process`]. Nothing is changed.

use std::path::Path;

use bulkhaul_sys as sys;

use crate::tree::keep::Reach;

/// What the option checks need to know of this process.
pub fn process() -> Process {
    Process {
        reach: Reach::of(sys::user_id(), sys::group_ids()),
        umask: umask(),
        processors: processors(),
        memory: memory(),
    }
}

/// The file creation mask, read without setting it; the usual one where `/proc` does not say.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    field
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .unwrap_or(0o022)
}

/// Processors by affinity, and by the quota of the control group and those above it.
pub fn processors() -> usize {
    let quota = group_files("cpu.max").filter_map(|text| cpu_quota(&text)).min();
    sys::processors().min(quota.unwrap_or(usize::MAX)).max(1)
}

/// Bytes of memory that are available, by the system and by the limits of the control group and those above it.
pub fn memory() -> u64 {
    let system = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = system.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available
        .and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib.saturating_mul(1024));
    let limits = group_files("memory.max").filter_map(|text| text.trim().parse().ok());
    available.into_iter().chain(limits).min().unwrap_or(u64::MAX)
}

/// What a file of the control group says, and those of the groups above it.
pub fn group_files(name: &str) -> impl Iterator<Item = String> {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = group
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/")
        .trim()
        .to_owned();
    let groups: Vec<_> = Path::new(&own).ancestors().map(Path::to_owned).collect();
    groups.into_iter().filter_map(move |path| {
        let below = path.strip_prefix("/").unwrap_or(&path);
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(below).join(name)).ok()
    })
}

/// Whole processors of a `cpu.max` line (`quota period` in microseconds); `None` without a limit.
pub fn cpu_quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

/// What the checks need to know of the process, so that they stay pure.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whose files it may make: its effective user id, effective and supplementary groups.
    pub reach: Reach,
    /// File creation mask.
    pub umask: u32,
    /// Processors that may be used.
    pub processors: usize,
    /// Memory that may be used, in bytes.
    pub memory: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_to_whole_processors() {
        assert_eq!(cpu_quota("max 100000"), None);
        assert_eq!(cpu_quota("50000 100000"), Some(1));
        assert_eq!(cpu_quota("150000 100000"), Some(2));
        assert_eq!(cpu_quota("400000 100000\n"), Some(4));
        assert_eq!(cpu_quota("1 0"), None);
    }
}
