//! Linux: `statx`, `getdents64`, `O_PATH`, `renameat2`, `copy_file_range`, clones, holes.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, StatxAttributes, StatxFlags, Uid, XattrFlags};

use crate::failpoint::{Call, again, bytes, once};
use crate::posix::{self, kind_of, last_errno, mode, timestamps};
use crate::{
    BorrowedFd, Errno, Follow, Identity, IoPriority, Kind, Node, OwnedFd, Protection, Quota, Result, Stat, Time,
};

/// Opens a directory for listing and as the base of further calls. Access times are left alone where that is allowed.
pub fn open_directory(at: BorrowedFd<'_>, name: &CStr, follow: Follow) -> Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if follow == Follow::No {
        flags |= OFlags::NOFOLLOW;
    }
    open_quietly(Call::OpenDirectory, at, name, flags)
}

/// Opens a file for reading. A FIFO or device under this name does not block; check the kind with [`stat_fd`].
pub fn open_file(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    open_quietly(
        Call::OpenFile,
        at,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
    )
}

/// Reading for a copy is not use: `O_NOATIME`, which only the owner (or root) may ask for.
fn open_quietly(call: Call, at: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    match again(call, || fs::openat(at, name, flags | OFlags::NOATIME, Mode::empty())) {
        Err(Errno::PERM) => again(call, || fs::openat(at, name, flags, Mode::empty())),
        other => other,
    }
}

/// A file without a name, on the file system of a directory; gone with its descriptor. `EOPNOTSUPP`, `EISDIR` or `EINVAL`
/// where the file system has none.
pub fn create_unnamed(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    again(Call::Unnamed, || fs::openat(directory, c".", flags, mode(0o600)))
}

/// Opens an open file once more, for writes past the page cache: aligned in the file and in memory. `EINVAL` where the file
/// system has none.
pub fn open_direct(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    again(Call::OpenDirect, || {
        fs::openat(CWD, &*Node::Open(file).magic(), flags, Mode::empty())
    })
}

/// Gives a file blocks for its first `length` bytes, and that size at least. `EOPNOTSUPP` where the file system can't.
pub fn allocate(file: BorrowedFd<'_>, length: u64) -> Result<()> {
    again(Call::Allocate, || {
        fs::fallocate(file, fs::FallocateFlags::empty(), 0, length)
    })
}

/// A descriptor that only names the inode: of anything, also of a symlink or of what may not be read.
pub fn open_node(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    again(Call::OpenNode, || {
        fs::openat(
            at,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    })
}

fn convert(x: &fs::Statx) -> Stat {
    let time = |t: &fs::StatxTimestamp| Time {
        sec: t.tv_sec,
        nsec: t.tv_nsec,
    };
    Stat {
        kind: kind_of(fs::FileType::from_raw_mode(u32::from(x.stx_mode))),
        mode: u32::from(x.stx_mode) & 0o7777,
        uid: x.stx_uid,
        gid: x.stx_gid,
        nlink: x.stx_nlink,
        size: x.stx_size,
        allocated: x.stx_blocks * 512,
        id: Identity {
            dev: fs::makedev(x.stx_dev_major, x.stx_dev_minor),
            ino: x.stx_ino,
        },
        rdev: fs::makedev(x.stx_rdev_major, x.stx_rdev_minor),
        atime: time(&x.stx_atime),
        mtime: time(&x.stx_mtime),
        ctime: time(&x.stx_ctime),
        protection: if x.stx_attributes.contains(StatxAttributes::IMMUTABLE) {
            Protection::Immutable
        } else if x.stx_attributes.contains(StatxAttributes::APPEND) {
            Protection::AppendOnly
        } else {
            Protection::None
        },
    }
}

/// Facts about a name; a symlink is itself unless followed.
pub fn stat(at: BorrowedFd<'_>, name: &CStr, follow: Follow) -> Result<Stat> {
    let flags = if follow == Follow::No {
        AtFlags::SYMLINK_NOFOLLOW
    } else {
        AtFlags::empty()
    };
    again(Call::Stat, || fs::statx(at, name, flags, StatxFlags::BASIC_STATS)).map(|x| convert(&x))
}

/// The same, never through a symlink, asked of whoever keeps the file: a network or FUSE client does not answer from what
/// it remembers.
pub fn stat_anew(at: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    again(Call::Stat, || fs::statx(at, name, flags, StatxFlags::BASIC_STATS)).map(|x| convert(&x))
}

/// Has the kernel look a name up again that it may remember from a moment ago, there or not, of a FUSE or network file
/// system.
pub fn forget_name(at: BorrowedFd<'_>, name: &CStr) {
    // Whatever is to be made under a name is looked up anew. Of a directory no link is ever made.
    match fs::linkat(at, c".", at, name, AtFlags::empty()) {
        Ok(()) | Err(_) => {}
    }
}

/// Facts about an open descriptor of any kind.
pub fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat> {
    again(Call::StatFd, || {
        fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
    })
    .map(|x| convert(&x))
}

/// Facts about an open directory, and the id of the mount that it lies on, in one call.
pub fn stat_mounted(fd: BorrowedFd<'_>) -> Result<(Stat, u64)> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let x = again(Call::StatFd, || fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted))?;
    let mount = if x.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        mount_of_descriptor(fd)?
    } else {
        x.stx_mnt_id
    };
    Ok((convert(&x), mount))
}

/// The mount id where `statx` does not tell it (before 5.8): `/proc/self/fdinfo` has it since 3.15.
fn mount_of_descriptor(fd: BorrowedFd<'_>) -> Result<u64> {
    let text = once(Call::MountId, || {
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    })?;
    let field = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    field.and_then(|id| id.trim().parse().ok()).ok_or(Errno::NOSYS)
}

/// Id of the mount that a descriptor lies on, as in the first column of `/proc/self/mountinfo`; `ENOSYS` before 5.8.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let x = again(Call::MountId, || {
        fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
    })?;
    if x.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(x.stx_mnt_id)
}

/// Reads the next stretch of a directory into `buffer` and hands each name, kind and inode number to `each` (not `.` and
/// `..`). Answers false at the end.
pub fn read_directory(
    fd: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    mut each: impl FnMut(&CStr, Kind, u64),
) -> Result<bool> {
    again(Call::ReadDirectory, || Ok(()))?;
    let mut stretch = fs::RawDir::new(fd, buffer);
    loop {
        match stretch.next() {
            None => return Ok(false),
            Some(Err(Errno::INTR)) => continue,
            Some(Err(errno)) => return Err(errno),
            Some(Ok(entry)) => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    each(name, kind_of(entry.file_type()), entry.ino());
                }
            }
        }
        if stretch.is_buffer_empty() {
            return Ok(true);
        }
    }
}

/// Makes a FIFO, socket or device, mode 0600.
pub fn make_node(at: BorrowedFd<'_>, name: &CStr, kind: Kind, rdev: u64) -> Result<()> {
    make_node_as(at, name, kind, rdev, 0o600)
}

/// The same with what the directory, or else the file creation mask, leaves of these permission bits.
pub fn make_node_as(at: BorrowedFd<'_>, name: &CStr, kind: Kind, rdev: u64, bits: u32) -> Result<()> {
    let file_type = match kind {
        Kind::Fifo => fs::FileType::Fifo,
        Kind::Socket => fs::FileType::Socket,
        Kind::Block => fs::FileType::BlockDevice,
        Kind::Char => fs::FileType::CharacterDevice,
        Kind::File | Kind::Directory | Kind::Symlink | Kind::Unknown => return Err(Errno::INVAL),
    };
    again(Call::MakeNode, || fs::mknodat(at, name, file_type, mode(bits), rdev))
}

/// Shares all blocks of `from` with `to` (`FICLONE`); `to` takes its size.
pub fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    again(Call::Clone, || fs::ioctl_ficlone(to, from))
}

/// Copies up to `length` bytes inside the kernel; 0 at the end of the source, or where the kernel would not.
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
    length: usize,
) -> Result<usize> {
    bytes(Call::CopyRange, length, |length| {
        let (mut i, mut o) = (from_offset, to_offset);
        fs::copy_file_range(from, Some(&mut i), to, Some(&mut o), length)
    })
}

/// Asks for write-back of a stretch to begin, without waiting.
pub fn start_write_back(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    let (offset, length) = (offset.cast_signed(), length.cast_signed());
    once(Call::WriteBack, || {
        // SAFETY: the call takes no pointers; the descriptor is borrowed, so it is open.
        let answer = unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// Waits until a stretch is written back; an error is told once, here or by the sync that follows.
pub fn finish_write_back(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    let (offset, length) = (offset.cast_signed(), length.cast_signed());
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    once(Call::WriteBack, || {
        // SAFETY: the call takes no pointers; the descriptor is borrowed, so it is open.
        let answer = unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, all) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// Gives up the cached pages of a stretch (`length` 0: to the end), so that the next read comes from the medium; only clean
/// pages go.
pub fn drop_cache(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    let length = std::num::NonZeroU64::new(length);
    once(Call::DropCache, || {
        fs::fadvise(fd, offset, length, fs::Advice::DontNeed)
    })
}

/// Asks for a file's content to be read into the cache, without waiting.
pub fn prefetch(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::Prefetch, || fs::fadvise(fd, 0, None, fs::Advice::WillNeed))
}

/// Bytes of a file's first `length` that are in the page cache (`cachestat`); `ENOSYS` before Linux 6.5.
pub fn cached_bytes(fd: BorrowedFd<'_>, length: u64) -> Result<u64> {
    /// `cachestat(2)`: the same number on every architecture.
    const CACHESTAT: libc::c_long = 451;
    let range: [u64; 2] = [0, length];
    let mut counts = [0_u64; 5];
    once(Call::CachedBytes, || {
        // SAFETY: the kernel reads two and writes five 64-bit numbers, which is what the pointers lead to for the time of
        // the call; the descriptor is borrowed, so it is open.
        let answer = unsafe { libc::syscall(CACHESTAT, fd.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0_u32) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    let page = rustix::param::page_size() as u64;
    Ok((counts[0] * page).min(length))
}

/// Waits until a file's content and what is needed to read it are on disk. Never repeated after a failure: the kernel
/// forgets what it could not write.
pub fn sync_data(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::SyncData, || fs::fdatasync(fd))
}

/// Waits until everything of this descriptor's file system is on disk.
pub fn sync_file_system(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::SyncFileSystem, || fs::syncfs(fd))
}

impl Node<'_> {
    /// The name by which path calls reach this very inode: the last component is magic, so nothing is looked up.
    fn magic(self) -> std::ffi::CString {
        let (Node::Open(fd) | Node::Path(fd)) = self;
        let mut text = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
        text.push(0);
        std::ffi::CString::from_vec_with_nul(text).unwrap_or_default()
    }
}

/// Sets owner and group; `None` leaves one alone. Clears set-id bits and capabilities as a side effect.
pub fn set_owner(node: Node<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    match node {
        Node::Open(fd) => again(Call::SetOwner, || fs::fchown(fd, uid, gid)),
        Node::Path(fd) => again(Call::SetOwner, || fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)),
    }
}

/// Sets permission, set-id and sticky bits. Not for symlinks (`EOPNOTSUPP`).
pub fn set_mode(node: Node<'_>, bits: u32) -> Result<()> {
    match node {
        Node::Open(fd) => again(Call::SetMode, || fs::fchmod(fd, mode(bits))),
        Node::Path(_) => again(Call::SetMode, || {
            fs::chmodat(CWD, &*node.magic(), mode(bits), AtFlags::empty())
        }),
    }
}

/// Sets access and modification time, to the nanosecond where the file system can; `None` leaves one alone.
pub fn set_times(node: Node<'_>, atime: Option<Time>, mtime: Option<Time>) -> Result<()> {
    let times = timestamps(atime, mtime);
    match node {
        Node::Open(fd) => again(Call::SetTimes, || fs::futimens(fd, &times)),
        Node::Path(fd) => match again(Call::SetTimes, || fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)) {
            Err(Errno::INVAL | Errno::NOENT) => again(Call::SetTimes, || {
                fs::utimensat(CWD, &*node.magic(), &times, AtFlags::empty())
            }),
            other => other,
        },
    }
}

/// Names of the extended attributes, each ended by a NUL byte, into `list`; answers the bytes used.
/// `ERANGE` when the list is longer.
pub fn list_xattrs(node: Node<'_>, list: &mut [u8]) -> Result<usize> {
    match node {
        Node::Open(fd) => again(Call::ListXattrs, || fs::flistxattr(fd, &mut *list)),
        Node::Path(_) => again(Call::ListXattrs, || fs::listxattr(&*node.magic(), &mut *list)),
    }
}

/// The same, asked by name; a symlink is itself. The answer is only as good as the name: what is to be changed is opened
/// first.
pub fn list_xattrs_at(at: BorrowedFd<'_>, name: &CStr, list: &mut [u8]) -> Result<usize> {
    /// `listxattrat(2)`, Linux 6.13: the same number on every architecture.
    const LISTXATTRAT: libc::c_long = 465;
    /// A kernel that does not have the call, or a filter that forbids it, is asked only once.
    static MISSING: AtomicBool = AtomicBool::new(false);
    again(Call::ListXattrs, || {
        if !MISSING.load(Ordering::Relaxed) {
            // SAFETY: the name is read up to its NUL byte and the list is written within its length during the call; the
            // descriptor is borrowed, so it is open.
            let answer = unsafe {
                libc::syscall(
                    LISTXATTRAT,
                    at.as_raw_fd(),
                    name.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    list.as_mut_ptr(),
                    list.len(),
                )
            };
            match usize::try_from(answer) {
                Ok(length) => return Ok(length),
                Err(_) => match last_errno() {
                    Errno::NOSYS | Errno::PERM => MISSING.store(true, Ordering::Relaxed),
                    errno => return Err(errno),
                },
            }
        }
        list_xattrs_by_path(at, name, list)
    })
}

/// The same on older kernels.
fn list_xattrs_by_path(at: BorrowedFd<'_>, name: &CStr, list: &mut [u8]) -> Result<usize> {
    let mut path = Node::Open(at).magic().into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.to_bytes());
    fs::llistxattr(path, list)
}

/// Value of an extended attribute into `value`; answers its length in bytes. `ERANGE` when it is longer.
pub fn get_xattr(node: Node<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    match node {
        Node::Open(fd) => again(Call::GetXattr, || fs::fgetxattr(fd, name, &mut *value)),
        Node::Path(_) => again(Call::GetXattr, || fs::getxattr(&*node.magic(), name, &mut *value)),
    }
}

/// Sets an extended attribute.
pub fn set_xattr(node: Node<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    match node {
        Node::Open(fd) => again(Call::SetXattr, || fs::fsetxattr(fd, name, value, XattrFlags::empty())),
        Node::Path(_) => again(Call::SetXattr, || {
            fs::setxattr(&*node.magic(), name, value, XattrFlags::empty())
        }),
    }
}

/// Removes an extended attribute; `ENODATA` when there is none.
pub fn remove_xattr(node: Node<'_>, name: &CStr) -> Result<()> {
    match node {
        Node::Open(fd) => again(Call::RemoveXattr, || fs::fremovexattr(fd, name)),
        Node::Path(_) => again(Call::RemoveXattr, || fs::removexattr(&*node.magic(), name)),
    }
}

/// Whether a directory is a subvolume of btrfs that nothing can be changed in, as most snapshots that are kept.
pub fn is_read_only_subvolume(directory: BorrowedFd<'_>) -> Result<bool> {
    // `BTRFS_IOC_SUBVOL_GETFLAGS` and `BTRFS_SUBVOL_RDONLY` of linux/btrfs.h.
    const GET_FLAGS: libc::Ioctl = 0x8008_9419_u32 as libc::Ioctl;
    const READ_ONLY: u64 = 2;
    let mut flags = [0_u64];
    let told = once(Call::Flags, || {
        // SAFETY: the kernel writes one 64-bit number, which is what the pointer leads to for the time of the call; the
        // descriptor is borrowed, so it is open.
        let answer = unsafe { libc::ioctl(directory.as_raw_fd(), GET_FLAGS, flags.as_mut_ptr()) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    });
    match told {
        Ok(()) => Ok(flags[0] & READ_ONLY != 0),
        // No subvolume, or no btrfs.
        Err(Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The magic number of the file system that holds `fd` (`linux/magic.h`).
pub fn file_system_magic(fd: BorrowedFd<'_>) -> Result<u64> {
    once(Call::Magic, || fs::fstatfs(fd)).map(|f| f.f_type.cast_unsigned())
}

/// Calls that not every kernel has, and that containers may forbid, by name, with what the kernel answers to one that asks for
/// nothing: `ENOSYS` where there is none, `EPERM` where a filter forbids it, anything else where it is there.
pub fn ask_for_calls() -> Vec<(&'static str, Errno)> {
    /// The same numbers on every architecture.
    const CACHESTAT: libc::c_long = 451;
    const LISTXATTRAT: libc::c_long = 465;
    let calls = [
        ("statx", libc::SYS_statx),
        ("openat2", libc::SYS_openat2),
        ("renameat2", libc::SYS_renameat2),
        ("copy_file_range", libc::SYS_copy_file_range),
        ("fallocate", libc::SYS_fallocate),
        ("fadvise64", libc::SYS_fadvise64),
        ("sync_file_range", libc::SYS_sync_file_range),
        ("syncfs", libc::SYS_syncfs),
        ("ioprio_set", libc::SYS_ioprio_set),
        ("cachestat", CACHESTAT),
        ("listxattrat", LISTXATTRAT),
    ];
    let ask = |number| {
        // SAFETY: the descriptor is none, every pointer is null and every length is 0, so each of the calls above refuses
        // before it reads, writes or changes anything.
        let answer = unsafe { libc::syscall(number, -1_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
        if answer < 0 { last_errno() } else { Errno::INVAL }
    };
    calls.map(|(name, number)| (name, ask(number))).into()
}

/// Processors that this thread may run on.
pub fn processors() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1) as usize)
}

/// Sets the niceness of this thread, and of those that it will start: -20 to 19.
pub fn set_nice(nice: i32) -> Result<()> {
    // To Linux a process is a thread here, and none is this one.
    again(Call::Nice, || rustix::process::setpriority_process(None, nice))
}

/// Sets the order of this thread's disk requests, and of those that it will start.
pub fn set_io_priority(priority: IoPriority) -> Result<()> {
    const THIS_THREAD: (libc::c_int, libc::c_int) = (1, 0);
    const CLASS_SHIFT: u32 = 13;
    let (class, level) = match priority {
        IoPriority::Realtime(level) => (1, level),
        IoPriority::BestEffort(level) => (2, level),
        IoPriority::Idle => (3, 0),
    };
    let value = (class << CLASS_SHIFT) | libc::c_int::from(level);
    again(Call::IoPriority, || {
        // SAFETY: the call takes three numbers.
        let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, THIS_THREAD.0, THIS_THREAD.1, value) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// Major and minor number of a device.
pub fn device_numbers(device: u64) -> (u32, u32) {
    (fs::major(device), fs::minor(device))
}

/// The number of a device of this major and minor number.
pub fn device(major: u32, minor: u32) -> u64 {
    fs::makedev(major, minor)
}

/// Whether a process with this number lives in this process's namespace. One that has ended and that nobody has waited for does
/// not: where the first process of a container waits for none, it stays for as long as the container.
pub fn process_exists(process: u32) -> bool {
    posix::process_exists(process) && !has_ended(process)
}

/// Whether all threads of a process have ended (`proc_pid_stat(5)`). The first one waits for the others, which may still write.
fn has_ended(process: u32) -> bool {
    let state = std::fs::read(format!("/proc/{process}/stat")).ok().and_then(|stat| {
        let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
        stat.get(name_ends + 2).copied()
    });
    matches!(state, Some(b'Z' | b'X'))
        && std::fs::read_dir(format!("/proc/{process}/task")).is_ok_and(|tasks| tasks.count() <= 1)
}

/// What tells process namespaces apart; empty where `/proc` does not say.
pub fn process_namespace() -> Vec<u8> {
    once(Call::Namespace, || {
        fs::readlinkat(CWD, c"/proc/self/ns/pid", Vec::new())
    })
    .map(std::ffi::CString::into_bytes)
    .unwrap_or_default()
}

/// What is another one after each start of the system and after each mount: for as long as it stays, what was written to
/// the mount of this file is there, whether it is on the medium or not. Before Linux 6.8 the number of a mount that has gone
/// may come again.
pub fn session(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    /// `STATX_MNT_ID_UNIQUE` (`linux/stat.h`).
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let mut session = once(Call::Session, || {
        std::fs::read("/proc/sys/kernel/random/boot_id").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    })?;
    let x = again(Call::MountId, || {
        fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | UNIQUE)
    })?;
    let mount = if x.stx_mask & (StatxFlags::MNT_ID | UNIQUE).bits() == 0 {
        mount_of_descriptor(fd)?
    } else {
        x.stx_mnt_id
    };
    session.extend(mount.to_ne_bytes());
    Ok(session)
}

/// The absolute path of an open directory as the kernel knows it; `ENOENT` where it has none any more.
pub fn path_of(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let magic = Node::Open(fd).magic();
    once(Call::Path, || fs::readlinkat(CWD, &*magic, Vec::new()))
        .map(std::ffi::CString::into_bytes)
        .and_then(|path| {
            if path.starts_with(b"/") {
                Ok(path)
            } else {
                Err(Errno::NOENT)
            }
        })
}

/// What this user's disk quota leaves on the file system that holds `fd` (`quotactl_fd`, Linux 5.14).
/// `ESRCH`, `ENOSYS` or `EOPNOTSUPP` where there is none.
pub fn user_quota(fd: BorrowedFd<'_>) -> Result<Quota> {
    /// `quotactl_fd(2)`: the same number on every architecture.
    const QUOTACTL_FD: libc::c_long = 443;
    /// `QCMD(Q_GETQUOTA, USRQUOTA)` of `linux/quota.h`.
    const GET_USER_QUOTA: u32 = 0x0080_0007 << 8;
    /// Block limits are in units of 1 KiB (`QIF_DQBLKSIZE`), usage is in bytes.
    const LIMIT_UNIT: u64 = 1024;
    // struct if_dqblk: hard and soft block limit, space used, hard and soft inode limit, inodes used, two times; then a
    // 32-bit mask of what is valid, and padding.
    let mut block = [0_u64; 9];
    once(Call::Quota, || {
        // SAFETY: the kernel writes one `struct if_dqblk` of 72 bytes, which is what the pointer leads to for the time of
        // the call; the descriptor is borrowed, so it is open.
        let answer = unsafe {
            libc::syscall(
                QUOTACTL_FD,
                fd.as_raw_fd(),
                GET_USER_QUOTA,
                crate::user_id(),
                block.as_mut_ptr(),
            )
        };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    let left = |hard: u64, used: u64| if hard == 0 { u64::MAX } else { hard.saturating_sub(used) };
    Ok(Quota {
        bytes_left: left(block[0].saturating_mul(LIMIT_UNIT), block[2]),
        inodes_left: left(block[3], block[5]),
    })
}

/// Calls whose second argument is a name below the descriptor that is their first.
const NAMING_CALLS: [libc::c_long; 13] = [
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
];

/// What the calls are about that hold threads of this process now, those whose names begin with `threads`: paths as the
/// kernel knows them, which no file system is asked for. What can't be found out is left out.
pub fn held_at(threads: &str) -> Vec<Vec<u8>> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named =
        |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(threads));
    let tasks = tasks.map(|task| task.path()).filter(|task| named(task));
    tasks
        .filter_map(|task| held(&std::fs::read_to_string(task.join("syscall")).ok()?))
        .collect()
}

/// The path of a call, from its line: the number, and six arguments in hexadecimal.
fn held(call: &str) -> Option<Vec<u8>> {
    let mut words = call.split(' ');
    let number: libc::c_long = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (first, second) = (argument()?, argument()?);
    let name = if NAMING_CALLS.contains(&number) {
        text_at(second)
    } else {
        None
    };
    let name = name.unwrap_or_default();
    if name.first() == Some(&b'/') {
        return Some(name);
    }
    let low = u32::try_from(first & u64::from(u32::MAX)).ok()?;
    let directory = if low.cast_signed() == libc::AT_FDCWD {
        std::fs::read_link("/proc/self/cwd").ok()?
    } else {
        // Other calls begin with other numbers: most are no descriptors, and small ones not those of files.
        let descriptor = i32::try_from(first)
            .ok()
            .filter(|number| *number > libc::STDERR_FILENO)?;
        std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?
    };
    let mut path = directory.into_os_string().into_vec();
    if path.first() != Some(&b'/') {
        return None;
    }
    if !matches!(&name[..], b"" | b".") {
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
    }
    Some(path)
}

/// The text at an address of this process, up to its NUL, read as anybody else would read it: what is not there is none.
fn text_at(address: u64) -> Option<Vec<u8>> {
    let memory = std::fs::File::open("/proc/self/mem").ok()?;
    let mut text = vec![0; 4096];
    // Up to the end of the page, behind which there may be nothing.
    let most = text.len() - usize::try_from(address % 4096).ok()?;
    let mut length = memory.read_at(&mut text[..most], address).ok()?;
    if !text[..length].contains(&0) {
        length += memory
            .read_at(&mut text[length..], address + length as u64)
            .unwrap_or(0);
    }
    let end = text[..length].iter().position(|b| *b == 0)?;
    text.truncate(end);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_process_that_has_ended_does_not_exist_though_nobody_has_waited_for_it() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(process_exists(child.id()));
        drop(child.stdin.take());
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), ended).unwrap();
        assert!(posix::process_exists(child.id()) && !process_exists(child.id()));
        child.wait().unwrap();
        assert!(process_exists(std::process::id()));
    }

    #[test]
    fn both_ways_to_a_mount_id_agree() {
        for path in [c"/", c"/proc", c"/dev", c"."] {
            let fd = open_directory(CWD, path, Follow::Yes).unwrap();
            let (stat, mount) = stat_mounted(fd.as_fd()).unwrap();
            assert_eq!(mount, mount_of_descriptor(fd.as_fd()).unwrap(), "{path:?}");
            assert_eq!(stat.id, stat_fd(fd.as_fd()).unwrap().id);
        }
    }

    #[test]
    fn attributes_are_told_by_name_as_by_descriptor() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", scratch.path().join("link")).unwrap();
        let at = std::fs::File::open(scratch.path()).unwrap();
        let file = open_file(at.as_fd(), c"file").unwrap();
        if set_xattr(Node::Open(file.as_fd()), c"user.one", b"1").is_err() {
            println!("skip: no user attributes here");
            return;
        }
        let told = |list: &dyn Fn(&mut [u8]) -> Result<usize>| {
            let mut names = [0; 256];
            list(&mut names).map(|n| names[..n].to_vec())
        };
        let right = told(&|l| list_xattrs(Node::Open(file.as_fd()), l));
        assert!(
            right.as_ref().is_ok_and(|names| names.starts_with(b"user.one\0")),
            "{right:?}"
        );
        assert_eq!(told(&|l| list_xattrs_at(at.as_fd(), c"file", l)), right);
        assert_eq!(told(&|l| list_xattrs_by_path(at.as_fd(), c"file", l)), right);
        assert_ne!(
            told(&|l| list_xattrs_at(at.as_fd(), c"link", l)),
            right,
            "a link is itself"
        );
        assert_ne!(
            told(&|l| list_xattrs_by_path(at.as_fd(), c"link", l)),
            right,
            "a link is itself"
        );
        assert_eq!(list_xattrs_at(at.as_fd(), c"file", &mut [0; 2]), Err(Errno::RANGE));
        assert_eq!(list_xattrs_at(at.as_fd(), c"none", &mut [0; 2]), Err(Errno::NOENT));
    }
}
