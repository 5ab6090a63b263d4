//! Other Unix systems, macOS above all: best effort, and honest about it. What can't be done here answers `ENOSYS` or
//! `EOPNOTSUPP`; the engine then takes its slower way, or reports the entry.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};

use crate::failpoint::{Call, again, once};
pub use crate::posix::process_exists;
use crate::posix::{kind_of, mode, timestamps};
use crate::{
    BorrowedFd, Errno, Follow, Identity, IoPriority, Kind, Node, OwnedFd, Protection, Quota, Result, Stat, Time,
};

/// Opens a directory for listing and as the base of further calls.
pub fn open_directory(at: BorrowedFd<'_>, name: &CStr, follow: Follow) -> Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if follow == Follow::No {
        flags |= OFlags::NOFOLLOW;
    }
    again(Call::OpenDirectory, || fs::openat(at, name, flags, Mode::empty()))
}

/// Opens a file for reading. A FIFO or device under this name does not block; check the kind with [`stat_fd`].
pub fn open_file(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    again(Call::OpenFile, || fs::openat(at, name, flags, Mode::empty()))
}

/// There are no files without a name here.
pub fn create_unnamed(_directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    Err(Errno::NOSYS)
}

/// A descriptor for metadata; `O_SYMLINK` opens a symlink itself. Sockets can't be opened.
pub fn open_node(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let itself = OFlags::from_bits_retain(libc::O_SYMLINK.cast_unsigned());
    again(Call::OpenNode, || {
        fs::openat(
            at,
            name,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | itself,
            Mode::empty(),
        )
    })
}

fn convert(s: &fs::Stat) -> Stat {
    let time = |sec: i64, nsec: i64| Time {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    };
    Stat {
        kind: kind_of(fs::FileType::from_raw_mode(s.st_mode)),
        mode: u32::from(s.st_mode) & 0o7777,
        uid: s.st_uid,
        gid: s.st_gid,
        nlink: u32::from(s.st_nlink),
        size: u64::try_from(s.st_size).unwrap_or(0),
        allocated: u64::try_from(s.st_blocks).unwrap_or(0) * 512,
        id: Identity {
            dev: u64::from(s.st_dev.cast_unsigned()),
            ino: s.st_ino,
        },
        rdev: u64::from(s.st_rdev.cast_unsigned()),
        atime: time(s.st_atime, s.st_atime_nsec),
        mtime: time(s.st_mtime, s.st_mtime_nsec),
        ctime: time(s.st_ctime, s.st_ctime_nsec),
        protection: Protection::None,
    }
}

/// Facts about a name; a symlink is itself unless followed.
pub fn stat(at: BorrowedFd<'_>, name: &CStr, follow: Follow) -> Result<Stat> {
    let flags = if follow == Follow::No {
        AtFlags::SYMLINK_NOFOLLOW
    } else {
        AtFlags::empty()
    };
    again(Call::Stat, || fs::statat(at, name, flags)).map(|s| convert(&s))
}

/// The same, never through a symlink; nobody can be asked to look again here.
pub fn stat_anew(at: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    stat(at, name, Follow::No)
}

/// Nothing is remembered here that could be told to look again.
pub fn forget_name(_at: BorrowedFd<'_>, _name: &CStr) {}

/// Facts about an open descriptor.
pub fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat> {
    again(Call::StatFd, || fs::fstat(fd)).map(|s| convert(&s))
}

/// Nothing is written past the page cache here.
pub fn open_direct(_file: BorrowedFd<'_>) -> Result<OwnedFd> {
    Err(Errno::NOTSUP)
}

/// Blocks come with the content here.
pub fn allocate(_file: BorrowedFd<'_>, _length: u64) -> Result<()> {
    Err(Errno::NOTSUP)
}

/// Facts about an open directory; a file system is mounted in one place here, so its device stands for the mount.
pub fn stat_mounted(fd: BorrowedFd<'_>) -> Result<(Stat, u64)> {
    stat_fd(fd).map(|stat| (stat, stat.id.dev))
}

/// There are no mount ids here.
pub fn mount_id(_fd: BorrowedFd<'_>) -> Result<u64> {
    Err(Errno::NOSYS)
}

/// Hands every name, kind and inode number of a directory to `each` in one go (not `.` and `..`) and answers false: the
/// end.
pub fn read_directory(
    fd: BorrowedFd<'_>,
    _buffer: &mut [MaybeUninit<u8>],
    mut each: impl FnMut(&CStr, Kind, u64),
) -> Result<bool> {
    for entry in fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name, kind_of(entry.file_type()), entry.ino());
        }
    }
    Ok(false)
}

/// Makes a FIFO, mode 0600; sockets and devices can't be made relative to a directory here.
pub fn make_node(at: BorrowedFd<'_>, name: &CStr, kind: Kind, rdev: u64) -> Result<()> {
    make_node_as(at, name, kind, rdev, 0o600)
}

/// The same with other permission bits.
pub fn make_node_as(_at: BorrowedFd<'_>, _name: &CStr, _kind: Kind, _rdev: u64, _bits: u32) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Clones here make new names, which the engine does not want.
pub fn clone_file(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> Result<()> {
    Err(Errno::NOSYS)
}

/// There is no such copy here.
pub fn copy_range(_: BorrowedFd<'_>, _: u64, _: BorrowedFd<'_>, _: u64, _: usize) -> Result<usize> {
    Err(Errno::NOSYS)
}

/// Write-back can't be asked for here.
pub fn start_write_back(_fd: BorrowedFd<'_>, _offset: u64, _length: u64) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Write-back can't be waited for here but by a sync.
pub fn finish_write_back(_fd: BorrowedFd<'_>, _offset: u64, _length: u64) -> Result<()> {
    Err(Errno::NOSYS)
}

/// The cache is not in our hands here.
pub fn drop_cache(_fd: BorrowedFd<'_>, _offset: u64, _length: u64) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Read-ahead can't be asked for here.
pub fn prefetch(_fd: BorrowedFd<'_>) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Not told here.
pub fn cached_bytes(_fd: BorrowedFd<'_>, _length: u64) -> Result<u64> {
    Err(Errno::NOSYS)
}

/// Waits until a file is on disk.
pub fn sync_data(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::SyncData, || fs::fsync(fd))
}

/// One file system can't be synced by itself here: a run that was to be durable as a whole is told so.
pub fn sync_file_system(_fd: BorrowedFd<'_>) -> Result<()> {
    Err(Errno::NOSYS)
}

fn descriptor(node: Node<'_>) -> BorrowedFd<'_> {
    let (Node::Open(fd) | Node::Path(fd)) = node;
    fd
}

/// Sets owner and group; `None` leaves one alone. Clears set-id bits as a side effect.
pub fn set_owner(node: Node<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    again(Call::SetOwner, || {
        fs::fchown(descriptor(node), uid.map(Uid::from_raw), gid.map(Gid::from_raw))
    })
}

/// Sets permission, set-id and sticky bits.
pub fn set_mode(node: Node<'_>, bits: u32) -> Result<()> {
    again(Call::SetMode, || fs::fchmod(descriptor(node), mode(bits)))
}

/// Sets access and modification time; `None` leaves one alone.
pub fn set_times(node: Node<'_>, atime: Option<Time>, mtime: Option<Time>) -> Result<()> {
    let times = timestamps(atime, mtime);
    again(Call::SetTimes, || fs::futimens(descriptor(node), &times))
}

/// Names of the extended attributes, each ended by a NUL byte, into `list`; answers the bytes used.
pub fn list_xattrs(node: Node<'_>, list: &mut [u8]) -> Result<usize> {
    again(Call::ListXattrs, || fs::flistxattr(descriptor(node), &mut *list))
}

/// Attributes are read by descriptor only here.
pub fn list_xattrs_at(_: BorrowedFd<'_>, _: &CStr, _: &mut [u8]) -> Result<usize> {
    Err(Errno::NOSYS)
}

/// Value of an extended attribute into `value`; answers its length in bytes.
pub fn get_xattr(node: Node<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    again(Call::GetXattr, || fs::fgetxattr(descriptor(node), name, &mut *value))
}

/// Sets an extended attribute.
pub fn set_xattr(node: Node<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    again(Call::SetXattr, || {
        fs::fsetxattr(descriptor(node), name, value, XattrFlags::empty())
    })
}

/// Removes an extended attribute; `ENODATA` when there is none.
pub fn remove_xattr(node: Node<'_>, name: &CStr) -> Result<()> {
    match again(Call::RemoveXattr, || fs::fremovexattr(descriptor(node), name)) {
        Err(Errno::NOATTR) => Err(Errno::NODATA),
        other => other,
    }
}

/// There are no subvolumes here.
pub fn is_read_only_subvolume(_directory: BorrowedFd<'_>) -> Result<bool> {
    Ok(false)
}

/// Quotas can't be asked for by descriptor here.
pub fn user_quota(_fd: BorrowedFd<'_>) -> Result<Quota> {
    Err(Errno::NOSYS)
}

/// There are no numbers for file system types here.
pub fn file_system_magic(_fd: BorrowedFd<'_>) -> Result<u64> {
    Err(Errno::NOSYS)
}

/// Processors of this machine.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// There is nothing to ask for here.
pub fn ask_for_calls() -> Vec<(&'static str, Errno)> {
    Vec::new()
}

/// Sets the niceness of this process: there is none of a thread here.
pub fn set_nice(nice: i32) -> Result<()> {
    again(Call::Nice, || rustix::process::setpriority_process(None, nice))
}

/// There is no such order here.
pub fn set_io_priority(_priority: IoPriority) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Devices say nothing about themselves here.
pub fn device_numbers(_device: u64) -> (u32, u32) {
    (0, 0)
}

/// Devices are not made here.
pub fn device(_major: u32, _minor: u32) -> u64 {
    0
}

/// There are no process namespaces here.
pub fn process_namespace() -> Vec<u8> {
    Vec::new()
}

/// Nothing tells whether what was written is still there.
pub fn session(_fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Err(Errno::NOSYS)
}

/// The path of a descriptor is not asked for here.
pub fn path_of(_fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Err(Errno::NOSYS)
}

/// Nobody tells here.
pub fn held_at(_threads: &str) -> Vec<Vec<u8>> {
    Vec::new()
}
