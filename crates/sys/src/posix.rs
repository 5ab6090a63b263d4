//! What every Unix system has, in one form for all of them.

use std::ffi::{CStr, CString};
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};

use crate::failpoint::{Call, again, bytes, filled, once, position};
use crate::{BorrowedFd, Capacity, Errno, Kind, OwnedFd, Replace, Result, Time, Way};

pub(crate) fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(libc::EIO))
}

pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits as fs::RawMode)
}

/// Times as the system takes them; `None` leaves one alone.
pub(crate) fn timestamps(atime: Option<Time>, mtime: Option<Time>) -> fs::Timestamps {
    let spec = |time: Option<Time>| match time {
        Some(t) => fs::Timespec {
            tv_sec: t.sec,
            tv_nsec: i64::from(t.nsec),
        },
        None => fs::Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
    };
    fs::Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    }
}

pub(crate) fn kind_of(file_type: fs::FileType) -> Kind {
    match file_type {
        fs::FileType::RegularFile => Kind::File,
        fs::FileType::Directory => Kind::Directory,
        fs::FileType::Symlink => Kind::Symlink,
        fs::FileType::Fifo => Kind::Fifo,
        fs::FileType::Socket => Kind::Socket,
        fs::FileType::BlockDevice => Kind::Block,
        fs::FileType::CharacterDevice => Kind::Char,
        fs::FileType::Unknown => Kind::Unknown,
    }
}

/// The directory that relative arguments start from.
pub fn current_directory() -> BorrowedFd<'static> {
    CWD
}

/// Makes a file that must not exist yet, mode 0600, opened for reading and writing.
pub fn create_file(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    create_file_as(at, name, 0o600)
}

/// The same with what the directory, or else the file creation mask, leaves of these permission bits.
pub fn create_file_as(at: BorrowedFd<'_>, name: &CStr, bits: u32) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(Call::Create, || fs::openat(at, name, flags, mode(bits)))
}

/// Opens a file that was made before, for reading and writing. A FIFO or device under this name does not block; check the
/// kind with `stat_fd`.
pub fn open_made(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    again(Call::OpenFile, || fs::openat(at, name, flags, Mode::empty()))
}

/// Opens what a user named for reading or for writing, through symlinks, and does not wait: neither here for the other end
/// of a FIFO (`ENXIO` where nobody reads it) nor in the calls that follow (`EAGAIN`; see [`wait_for`]). Nothing is made or
/// cut short.
pub fn open_stream(at: BorrowedFd<'_>, name: &CStr, way: Way) -> Result<OwnedFd> {
    let access = match way {
        Way::In => OFlags::RDONLY,
        Way::Out => OFlags::WRONLY,
    };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    again(Call::OpenStream, || fs::openat(at, name, flags, Mode::empty()))
}

/// Waits until a descriptor can be read or written, or has an error or an end to tell; false: not within `time`.
pub fn wait_for(fd: BorrowedFd<'_>, way: Way, time: Duration) -> Result<bool> {
    let wanted = match way {
        Way::In => PollFlags::IN,
        Way::Out => PollFlags::OUT,
    };
    let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
    again(Call::Poll, || {
        poll(&mut [PollFd::from_borrowed_fd(fd, wanted)], Some(&time))
    })
    .map(|ready| ready > 0)
}

/// The name that these bytes begin with; they end with a NUL, or there is none. A listing is looked at name by name, and
/// the library's own search takes a byte at a time.
pub fn name_at(bytes: &[u8]) -> &CStr {
    match bytes.last() {
        // SAFETY: there is a NUL in `bytes`, so nothing past them is read, and the answer is borrowed from them.
        Some(0) => unsafe { CStr::from_ptr(bytes.as_ptr().cast()) },
        _ => c"",
    }
}

/// Starts a listing again from the first name.
pub fn rewind_directory(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::Rewind, || fs::seek(fd, fs::SeekFrom::Start(0))).map(drop)
}

/// Text of a symlink.
pub fn read_link(at: BorrowedFd<'_>, name: &CStr) -> Result<CString> {
    again(Call::ReadLink, || fs::readlinkat(at, name, Vec::new()))
}

/// Makes a directory, mode 0700.
pub fn make_directory(at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    make_directory_as(at, name, 0o700)
}

/// Makes a directory with what the one that holds it, or else the file creation mask, leaves of these permission bits.
pub fn make_directory_as(at: BorrowedFd<'_>, name: &CStr, bits: u32) -> Result<()> {
    again(Call::MakeDirectory, || fs::mkdirat(at, name, mode(bits)))
}

/// Makes a symlink.
pub fn make_symlink(target: &CStr, at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    again(Call::Symlink, || fs::symlinkat(target, at, name))
}

/// Makes `to` another name of the file `from`; a symlink is linked itself. Never replaces.
pub fn make_link(from_at: BorrowedFd<'_>, from: &CStr, to_at: BorrowedFd<'_>, to: &CStr) -> Result<()> {
    again(Call::Link, || fs::linkat(from_at, from, to_at, to, AtFlags::empty()))
}

/// Renames within or between directories.
pub fn rename(from_at: BorrowedFd<'_>, from: &CStr, to_at: BorrowedFd<'_>, to: &CStr, replace: Replace) -> Result<()> {
    match replace {
        Replace::No => again(Call::Rename, || {
            fs::renameat_with(from_at, from, to_at, to, RenameFlags::NOREPLACE)
        }),
        Replace::Yes => again(Call::Rename, || fs::renameat(from_at, from, to_at, to)),
    }
}

/// Removes a name that is not a directory.
pub fn unlink(at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    again(Call::Unlink, || fs::unlinkat(at, name, AtFlags::empty()))
}

/// Removes an empty directory.
pub fn remove_directory(at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    again(Call::RemoveDirectory, || fs::unlinkat(at, name, AtFlags::REMOVEDIR))
}

/// Reads at the descriptor's own position; 0 at the end.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    filled(Call::Read, buffer, |part| rustix::io::read(fd, part))
}

/// Reads at an offset in bytes; 0 at the end.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    filled(Call::Read, buffer, |part| rustix::io::pread(fd, part, offset))
}

/// Reads at an offset in bytes until `buffer` is full or the file ends.
pub fn read_full_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let enough = buffer.len();
    read_enough_at(fd, buffer, enough, offset)
}

/// Reads at an offset in bytes until there is `enough` in `buffer`, or the file ends; once at least. What more it has room
/// for is a question that no call is made for alone.
pub fn read_enough_at(fd: BorrowedFd<'_>, buffer: &mut [u8], enough: usize, offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < enough.max(1) {
        match read_at(fd, &mut buffer[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Writes all of `data` at an offset in bytes.
pub fn write_all_at(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < data.len() {
        let put = |length| rustix::io::pwrite(fd, &data[done..done + length], offset + done as u64);
        match bytes(Call::Write, data.len() - done, put)? {
            0 => return Err(Errno::IO),
            n => done += n,
        }
    }
    Ok(())
}

/// Writes at the descriptor's own position what it takes at once; answers the bytes.
pub fn write(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize> {
    bytes(Call::Write, data.len(), |length| rustix::io::write(fd, &data[..length]))
}

/// Sets a file's size in bytes; new space is a hole.
pub fn set_size(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    again(Call::SetSize, || fs::ftruncate(fd, size))
}

/// Waits until a file or directory and its metadata are on disk.
pub fn sync_all(fd: BorrowedFd<'_>) -> Result<()> {
    once(Call::SyncAll, || fs::fsync(fd))
}

/// Closes a descriptor that was written to: network file systems tell here what they could not store. It is closed
/// whatever the answer is.
pub fn close(fd: OwnedFd) -> Result<()> {
    once(Call::Close, move || {
        // SAFETY: the descriptor was owned until here, and nobody else has it.
        let answer = unsafe { libc::close(fd.into_raw_fd()) };
        if answer == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// A second descriptor of the same open file.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    once(Call::Duplicate, || rustix::io::fcntl_dupfd_cloexec(fd, 0))
}

/// The same of the descriptor that this process has under a number; `EBADF` where there is none.
pub fn duplicate_number(number: i32) -> Result<OwnedFd> {
    once(Call::Duplicate, || {
        // SAFETY: the call takes numbers; a number that is no descriptor is an error.
        let answer = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
        if answer < 0 {
            return Err(last_errno());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(answer) })
    })
}

/// Takes the exclusive lock of an open file or directory; `EWOULDBLOCK` when another description holds it.
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<()> {
    again(Call::Lock, || fs::flock(fd, FlockOperation::NonBlockingLockExclusive))
}

/// Gives the lock back, also where a child process holds a copy of the descriptor.
pub fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    again(Call::Unlock, || fs::flock(fd, FlockOperation::Unlock))
}

/// Free space of the file system that holds `fd`.
pub fn capacity(fd: BorrowedFd<'_>) -> Result<Capacity> {
    let v = once(Call::Capacity, || fs::fstatvfs(fd))?;
    Ok(Capacity {
        free_bytes: v.f_bavail.saturating_mul(v.f_frsize),
        free_inodes: if v.f_files == 0 { u64::MAX } else { v.f_favail },
        total_bytes: v.f_blocks.saturating_mul(v.f_frsize),
    })
}

/// How many descriptors this process may have open.
pub fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}

/// How long this process may make a file: beyond that it would be ended by a signal.
pub fn file_size_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Fsize)
        .current
        .unwrap_or(u64::MAX)
}

/// Effective and supplementary group ids.
pub fn group_ids() -> Vec<u32> {
    let mut ids: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .iter()
        .map(|g| g.as_raw())
        .collect();
    ids.push(rustix::process::getegid().as_raw());
    ids
}

/// Effective user id.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The host's name, as the kernel has it.
pub fn host_name() -> Vec<u8> {
    rustix::system::uname().nodename().to_bytes().to_vec()
}

/// Whether a process with this number lives in this process's namespace.
pub fn process_exists(process: u32) -> bool {
    let Some(pid) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

/// Ends this process, whatever its threads are at: nothing of it runs any more, and nothing is waited for but the kernel.
pub fn end_process(code: i32) -> ! {
    // SAFETY: the call takes a number, and does not come back.
    unsafe { libc::_exit(code) }
}

/// The processors' time that this process took so far, in all its threads.
pub fn processor_time() -> core::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    core::time::Duration::try_from(time).unwrap_or_default()
}

/// The working directory; empty where it has no path.
pub fn working_directory() -> Vec<u8> {
    rustix::process::getcwd(Vec::new())
        .map(CString::into_bytes)
        .unwrap_or_default()
}

/// The next data at or after `offset`; `None` when only a hole follows.
pub fn seek_data(fd: BorrowedFd<'_>, offset: u64) -> Result<Option<u64>> {
    match position(Call::SeekData, || fs::seek(fd, fs::SeekFrom::Data(offset))) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The next hole at or after `offset`; the end of a file counts as one.
pub fn seek_hole(fd: BorrowedFd<'_>, offset: u64) -> Result<u64> {
    position(Call::SeekHole, || fs::seek(fd, fs::SeekFrom::Hole(offset)))
}

/// Where a file ends: its bytes, from the least that a file system can be asked. A device or a directory may answer too.
pub fn seek_end(fd: BorrowedFd<'_>) -> Result<u64> {
    position(Call::SeekEnd, || fs::seek(fd, fs::SeekFrom::End(0)))
}
