//! Builders of trees.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bulkhaul_sys::{self as sys, AsFd as _, Kind, Node, Time};

use super::c_string;

/// A directory that is being filled. Parents are made as they are needed.
#[derive(Debug)]
pub struct Tree(PathBuf);

/// `length` bytes that no two seeds share, and that hold no block of zeros.
pub fn content(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3] | 1
    })
    .take(length)
    .collect()
}

/// A descriptor that names whatever is at a path.
pub fn node(path: &Path) -> sys::OwnedFd {
    sys::open_node(sys::current_directory(), &c_string(path)).unwrap()
}

/// Sets both times of whatever is at a path, a symlink itself.
pub fn set_time(path: &Path, sec: i64, nsec: u32) {
    let time = Some(Time { sec, nsec });
    sys::set_times(Node::Path(node(path).as_fd()), time, time).unwrap();
}

/// Modification time of whatever is at a path.
pub fn modified(path: &Path) -> (i64, u32) {
    let time = sys::stat_fd(node(path).as_fd()).unwrap().mtime;
    (time.sec, time.nsec)
}

impl Tree {
    /// Makes the directory.
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it, and the directories that lead there.
    pub fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.0.join(Path::new(name.as_ref()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Adds a file.
    pub fn file(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.at(name), content).unwrap();
        self
    }

    /// Adds a directory.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> &Self {
        fs::create_dir_all(self.at(name)).unwrap();
        self
    }

    /// Adds a symlink.
    pub fn symlink(&self, name: impl AsRef<OsStr>, text: impl AsRef<OsStr>) -> &Self {
        symlink(text.as_ref(), self.at(name)).unwrap();
        self
    }

    /// Adds another name of a file.
    pub fn link(&self, name: impl AsRef<OsStr>, of: impl AsRef<OsStr>) -> &Self {
        fs::hard_link(self.at(of), self.at(name)).unwrap();
        self
    }

    /// Adds a FIFO, socket or device.
    pub fn special(&self, name: impl AsRef<OsStr>, kind: Kind, rdev: u64) -> &Self {
        sys::make_node(sys::current_directory(), &c_string(self.at(name)), kind, rdev).unwrap();
        self
    }

    /// Sets the mode of an entry.
    pub fn mode(&self, name: impl AsRef<OsStr>, mode: u32) -> &Self {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Sets owner and group of an entry, a symlink itself.
    pub fn owner(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.at(name), Some(uid), Some(gid)).unwrap();
        self
    }

    /// Sets both times of an entry, a symlink itself.
    pub fn time(&self, name: impl AsRef<OsStr>, sec: i64, nsec: u32) -> &Self {
        set_time(&self.at(name), sec, nsec);
        self
    }

    /// Sets an extended attribute.
    pub fn xattr(&self, name: impl AsRef<OsStr>, attribute: &str, value: &[u8]) -> &Self {
        let node = node(&self.at(name));
        sys::set_xattr(Node::Path(node.as_fd()), &c_string(attribute), value).unwrap();
        self
    }

    /// Content of a file.
    pub fn read(&self, name: impl AsRef<OsStr>) -> Vec<u8> {
        fs::read(self.0.join(Path::new(name.as_ref()))).unwrap()
    }

    /// Names below it, sorted, relative to it.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut left = vec![self.0.clone()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.strip_prefix(&self.0).unwrap();
                names.push(String::from_utf8_lossy(name.as_os_str().as_bytes()).into_owned());
                if entry.file_type().unwrap().is_dir() {
                    left.push(path);
                }
            }
        }
        names.sort();
        names
    }
}
