//! System calls, typed: one function a call, relative to a directory descriptor.
//!
//! Comes in: descriptors, single names (`CStr`, one path component) and plain values; goes out: plain values or an
//! [`Errno`]. No policy lives here, and no path is ever joined: what a caller reaches, it reaches by descriptor, one
//! component at a time and without following a symlink, so that nobody who renames things underneath can lead it
//! astray. An interrupted call (`EINTR`) is repeated here, nowhere else.
//!
//! `posix` is what every Unix has; `backend` is the platform's own: `linux`, or `portable`, where what cannot be done
//! answers `ENOSYS`, never a silent `Ok`.

#[cfg(feature = "failpoints")]
pub mod failpoint;
#[cfg(not(feature = "failpoints"))]
mod failpoint;
mod posix;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as backend;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as backend;

pub use backend::*;
pub use posix::{
    capacity, close, create_file, create_file_as, current_directory, descriptor_limit, duplicate, duplicate_number,
    end_process, file_size_limit, group_ids, host_name, make_directory, make_directory_as, make_link, make_symlink,
    name_at, open_made, open_stream, processor_time, read, read_at, read_enough_at, read_full_at, read_link,
    remove_directory, rename, rewind_directory, seek_data, seek_end, seek_hole, set_size, sync_all, try_lock, unlink,
    unlock, user_id, wait_for, working_directory, write, write_all_at,
};
pub use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
pub use rustix::io::Errno;

/// Result of a system call.
pub type Result<T> = core::result::Result<T, Errno>;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// Not told by the listing (`DT_UNKNOWN`): ask [`stat`].
    Unknown,
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

/// What identifies an inode for the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What nobody may do to an inode while its flags say so (`chattr(1)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Nothing, or nobody tells.
    #[default]
    None,
    /// Its content only grows, and what a directory holds is neither renamed nor removed.
    AppendOnly,
    /// Nothing changes in it.
    Immutable,
}

/// An inode's facts.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Bytes of content.
    pub size: u64,
    /// Allocated space in bytes.
    pub allocated: u64,
    /// Device and inode.
    pub id: Identity,
    /// Device number of a device node.
    pub rdev: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// What its flags forbid.
    pub protection: Protection,
}

/// How a name is to be opened when it may be a symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// A symlink in the last place is an error (`ELOOP` or `ENOTDIR`).
    No,
    /// A symlink in the last place is followed: for names that the user gave.
    Yes,
}

/// Which way the bytes of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are read.
    In,
    /// They are written.
    Out,
}

/// Whether a rename may take the place of an existing name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// An existing name is an error (`EEXIST`); `EINVAL` where the file system can't promise that.
    No,
    /// An existing non-directory is replaced.
    Yes,
}

/// An inode whose metadata is read or set: always by descriptor, never by a path that somebody could swap.
#[derive(Clone, Copy)]
pub enum Node<'fd> {
    /// Opened for reading or writing.
    Open(BorrowedFd<'fd>),
    /// Opened with [`open_node`]: a symlink, FIFO, device, or something unreadable.
    Path(BorrowedFd<'fd>),
}

/// In which order the requests of a thread reach a disk, where its scheduler heeds that (`ioprio_set(2)`). Levels go from
/// 0, the first, to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// Before all others; for privileged processes.
    Realtime(u8),
    /// As everybody.
    BestEffort(u8),
    /// When nobody else wants the disk.
    Idle,
}

/// Capacity of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Bytes free for this user.
    pub free_bytes: u64,
    /// Inodes free for this user; `u64::MAX` where the file system has no such limit.
    pub free_inodes: u64,
    /// Size of the file system in bytes.
    pub total_bytes: u64,
}

/// What a disk quota leaves to a user.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Bytes; `u64::MAX` without a limit.
    pub bytes_left: u64,
    /// Inodes; `u64::MAX` without a limit.
    pub inodes_left: u64,
}

impl Stat {
    /// Whether both are of one inode. Its number alone does not tell: views of several file systems (overlays, FUSE) give one
    /// to different files. What differs only because it was changed between the two looks is not taken for the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let facts = |s: &Self| (s.id, s.kind, s.mode, s.uid, s.gid, s.size, s.rdev, s.mtime, s.ctime);
        facts(self) == facts(other)
    }
}

impl Time {
    /// The time as the originals compare it: seconds in a double (about 0.24 microseconds apart in this century).
    pub fn as_float(self) -> f64 {
        self.sec as f64 + f64::from(self.nsec) * 1e-9
    }
}
