//! What kind of device holds a file system, as far as the system tells, and whether one does at all.
//!
//! Comes in: a descriptor; goes out: a [`Medium`], of which a wrong answer costs time, nothing else: the number of workers
//! begins with it, and what is measured decides; or whether the sizes of files are those of their content.

use std::path::Path;

use bulkhaul_sys::{self as sys, BorrowedFd};

use crate::pool::tune::Medium;

/// Where the kernel describes block devices, by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// File systems in memory: tmpfs, ramfs, hugetlbfs (`linux/magic.h`).
const IN_MEMORY: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
/// File systems on local disks that do not say which: Btrfs, ZFS, bcachefs.
const POOLS: [u64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];
/// File systems that show another one, of this machine as a rule: overlays (containers), eCryptfs.
const LAYERS: [u64; 2] = [0x794c_7630, 0xf15f];

/// File systems whose files are made when they are read, so that their sizes say nothing: 0, a page, or what might be
/// written there. /proc, /sys, both kinds of cgroup, debugfs, tracefs, securityfs, configfs, selinuxfs, smackfs, apparmor's,
/// the control files of FUSE, bpf, `binfmt_misc`, resctrl and nfsd.
const MADE_WHEN_READ: [u64; 16] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0xf97c_ff8c,
    0x4341_5d53,
    0x5a3c_69f0,
    0x6573_5543,
    0xcafe_4a11,
    0x4249_4e4d,
    0x0765_5821,
    0x6e66_7364,
];

/// Whether a file is as long as its size says, on the file system that holds it: not in /proc, /sys and their like, where
/// only reading tells.
pub fn has_sizes(fd: BorrowedFd<'_>) -> bool {
    // Who does not say is as all others.
    sys::file_system_magic(fd).map_or(true, |magic| !MADE_WHEN_READ.contains(&magic))
}

/// The medium that holds this file or directory.
pub fn medium(fd: BorrowedFd<'_>) -> Medium {
    let magic = sys::file_system_magic(fd).unwrap_or(0);
    let device = sys::stat_fd(fd).map_or((0, 0), |stat| sys::device_numbers(stat.id.dev));
    classify(magic, device, Path::new(DEVICES))
}

/// Whether a file system has no medium but memory: what is read there was cached, whatever is given up.
pub fn is_in_memory(fd: BorrowedFd<'_>) -> bool {
    sys::file_system_magic(fd).is_ok_and(|magic| IN_MEMORY.contains(&magic))
}

/// Whether this is the number of a block device of this machine, so that a file system on it is on nobody else's.
pub fn is_block_device(device: u64) -> bool {
    rotates(sys::device_numbers(device), Path::new(DEVICES)).is_some()
}

/// Whether a file system holds what it shows, so that device and inode tell its files apart: not where it shows those of
/// another one, or another machine's.
pub fn is_original(fd: BorrowedFd<'_>) -> bool {
    let magic = sys::file_system_magic(fd).unwrap_or(0);
    let on_device = || sys::stat_fd(fd).is_ok_and(|stat| is_block_device(stat.id.dev));
    IN_MEMORY.contains(&magic) || POOLS.contains(&magic) || on_device()
}

fn classify(magic: u64, device: (u32, u32), devices: &Path) -> Medium {
    if IN_MEMORY.contains(&magic) {
        return Medium::Memory;
    }
    match rotates(device, devices) {
        Some(true) => Medium::Rotating,
        Some(false) => Medium::Solid,
        None if POOLS.contains(&magic) || LAYERS.contains(&magic) => Medium::Solid,
        None => Medium::Network,
    }
}

/// Whether a block device rotates; a partition is asked by its disk.
fn rotates((major, minor): (u32, u32), devices: &Path) -> Option<bool> {
    let device = devices.join(format!("{major}:{minor}"));
    let answer = ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|file| std::fs::read_to_string(device.join(file)).ok())?;
    Some(answer.trim() == "1")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_disk_answers_for_its_partitions() {
        const EXT4: u64 = 0xef53;
        let scratch = tempfile::tempdir().unwrap();
        let devices = scratch.path().join("dev");
        std::fs::create_dir(&devices).unwrap();
        for (disk, number, rotational) in [("sda", 0, "1\n"), ("sdb", 16, "0\n")] {
            let disk = scratch.path().join(disk);
            std::fs::create_dir_all(disk.join("queue")).unwrap();
            std::fs::create_dir(disk.join("part")).unwrap();
            std::fs::write(disk.join("queue/rotational"), rotational).unwrap();
            symlink(&disk, devices.join(format!("8:{number}"))).unwrap();
            symlink(disk.join("part"), devices.join(format!("8:{}", number + 1))).unwrap();
        }
        let cases = [
            (EXT4, (8, 0), Medium::Rotating),
            (EXT4, (8, 1), Medium::Rotating),
            (EXT4, (8, 16), Medium::Solid),
            (EXT4, (8, 17), Medium::Solid),
            // NFS, a FUSE server, and what nobody knows.
            (0x6969, (0, 40), Medium::Network),
            (0x6573_5546, (0, 41), Medium::Network),
            (0, (0, 0), Medium::Network),
            (IN_MEMORY[0], (0, 42), Medium::Memory),
            (POOLS[0], (0, 43), Medium::Solid),
            (LAYERS[0], (0, 44), Medium::Solid),
        ];
        for (magic, device, medium) in cases {
            assert_eq!(classify(magic, device, &devices), medium, "{magic:x} {device:?}");
        }
    }
}
