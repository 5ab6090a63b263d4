//! The words for one entry: what it is, what differs, what became of it and why.
//!
//! Everybody says them; they depend on nothing of the engine.

use bulkhaul_sys::{Kind, Stat, Time};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A directory, symlink or special file was made.
    Made,
    /// A file's content was written.
    Copied,
    /// A hard link was made to a file of this run.
    Linked,
    /// It got its new place within its file system, a directory with all that is in it.
    Renamed,
    /// Content was right, metadata was put right.
    Metadata,
    /// Nothing was done; a reason goes with it.
    Skipped,
    /// It was removed.
    Removed,
    /// It is in the list.
    Listed,
    /// Both sides have it, and nothing differs.
    Same,
    /// One side does not have it, or has it otherwise.
    Different,
    /// The source changed or vanished meanwhile.
    Changed,
    /// Something in the destination is in the way.
    Conflict,
    /// It was read back and differs, or is not what a manifest says.
    Mismatched,
    /// It did not arrive.
    Failed,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Outcome; 14] = [
        Self::Made,
        Self::Copied,
        Self::Linked,
        Self::Renamed,
        Self::Metadata,
        Self::Skipped,
        Self::Removed,
        Self::Listed,
        Self::Same,
        Self::Different,
        Self::Changed,
        Self::Conflict,
        Self::Mismatched,
        Self::Failed,
    ];

    /// The outcome as `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Copied => "copied",
            Self::Linked => "linked",
            Self::Renamed => "renamed",
            Self::Metadata => "metadata",
            Self::Skipped => "skipped",
            Self::Removed => "removed",
            Self::Listed => "listed",
            Self::Same => "same",
            Self::Different => "different",
            Self::Changed => "changed",
            Self::Conflict => "conflict",
            Self::Mismatched => "mismatched",
            Self::Failed => "failed",
        }
    }
}

/// Why an entry was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is there already.
    Unchanged,
    /// An exclude rule names it. Excluded entries are not counted as found.
    Excluded,
    /// Another source brings the same name, or the same directory.
    Overridden,
    /// It lies on another file system.
    OtherFileSystem,
    /// It is an unfinished entry of an interrupted run.
    StagingName,
    /// It is the destination itself.
    Destination,
    /// Source and destination are the same file.
    SameFile,
    /// Only directories were asked for.
    DirectoriesOnly,
    /// A directory that nothing is in, where only needed ones were asked for.
    NotNeeded,
    /// A directory that was to be removed holds something that stays.
    NotEmpty,
    /// Somebody else removed it first.
    Vanished,
    /// A FIFO, socket or device, where only the others were asked for.
    Special,
    /// It is a file that this run itself uses.
    InUse,
    /// It could not be compared: something failed with it, or above it, on the other side.
    NotCompared,
    /// It is no regular file, where only those were asked for.
    NotAFile,
    /// No manifest names it, and nobody asked for what is extra.
    NotListed,
    /// Its name does not end as was asked for.
    OtherSuffix,
    /// It is smaller than was asked for.
    TooSmall,
    /// It is compressed already.
    Compressed,
    /// Its archive would not be smaller.
    NotSmaller,
    /// It has more than one name.
    SeveralNames,
    /// A symlink, where only what it leads to could be meant.
    Symlink,
    /// Its size or age was not asked for.
    NotSelected,
    /// Both sides have it otherwise, and the rule for that keeps what the destination has.
    Kept,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 24] = [
        Self::Unchanged,
        Self::Excluded,
        Self::Overridden,
        Self::OtherFileSystem,
        Self::StagingName,
        Self::Destination,
        Self::SameFile,
        Self::DirectoriesOnly,
        Self::NotNeeded,
        Self::NotEmpty,
        Self::Vanished,
        Self::Special,
        Self::InUse,
        Self::NotCompared,
        Self::NotAFile,
        Self::NotListed,
        Self::OtherSuffix,
        Self::TooSmall,
        Self::Compressed,
        Self::NotSmaller,
        Self::SeveralNames,
        Self::Symlink,
        Self::NotSelected,
        Self::Kept,
    ];

    /// The reason as `--json` names it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Excluded => "excluded",
            Self::Overridden => "overridden",
            Self::OtherFileSystem => "other-file-system",
            Self::StagingName => "staging-name",
            Self::Destination => "destination",
            Self::SameFile => "same-file",
            Self::DirectoriesOnly => "directories-only",
            Self::NotNeeded => "not-needed",
            Self::NotEmpty => "not-empty",
            Self::Vanished => "vanished",
            Self::Special => "special",
            Self::InUse => "in-use",
            Self::NotCompared => "not-compared",
            Self::NotAFile => "not-a-file",
            Self::NotListed => "not-listed",
            Self::OtherSuffix => "other-suffix",
            Self::TooSmall => "too-small",
            Self::Compressed => "compressed",
            Self::NotSmaller => "not-smaller",
            Self::SeveralNames => "several-names",
            Self::Symlink => "symlink",
            Self::NotSelected => "not-selected",
            Self::Kept => "kept",
        }
    }
}

/// The kinds that entries are counted by.
pub const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::Block,
    Kind::Char,
];

/// The kind as `--json` names it.
pub fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::File | Kind::Unknown => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Block => "block",
        Kind::Char => "char",
    }
}

/// Place of a kind in [`KINDS`].
pub fn kind_index(kind: Kind) -> usize {
    KINDS.iter().position(|k| *k == kind).unwrap_or(0)
}

/// What differs between source and destination, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub u16);

impl Changes {
    /// It was not there.
    pub const NEW: Self = Self(1);
    /// Content.
    pub const CONTENT: Self = Self(1 << 1);
    /// Size.
    pub const SIZE: Self = Self(1 << 2);
    /// Modification time.
    pub const TIME: Self = Self(1 << 3);
    /// Permission bits.
    pub const MODE: Self = Self(1 << 4);
    /// Owner.
    pub const OWNER: Self = Self(1 << 5);
    /// Group.
    pub const GROUP: Self = Self(1 << 6);
    /// ACL.
    pub const ACL: Self = Self(1 << 7);
    /// Extended attributes.
    pub const XATTR: Self = Self(1 << 8);
    /// A symlink's text or a device's number.
    pub const TARGET: Self = Self(1 << 9);
    /// It is there, and in the source it is not.
    pub const EXTRA: Self = Self(1 << 10);
    /// It is something else.
    pub const KIND: Self = Self(1 << 11);

    /// Names of the bits, in their order.
    pub const NAMES: [&'static str; 12] = [
        "new", "content", "size", "time", "mode", "owner", "group", "acl", "xattr", "target", "extra", "kind",
    ];

    /// Adds bits.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds bits on a condition.
    pub fn insert_if(&mut self, condition: bool, other: Self) {
        if condition {
            self.insert(other);
        }
    }

    /// All but these.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of these bits are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing differs.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the bits that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

/// What `stat` says of an entry, and its extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Bytes of content; 0 for what has none. Where sizes say nothing (/proc, /sys and their like) and the content was read,
    /// what there was.
    pub size: u64,
    /// A file that takes no space: its size may say nothing.
    pub vague: bool,
    /// Last change of content.
    pub mtime: Time,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node; 0 otherwise.
    pub rdev: u64,
    /// xxh64 over names and values of the extended attributes; 0 where nobody asked.
    pub xattrs: u64,
}

impl Details {
    /// From an inode's facts.
    pub fn new(stat: &Stat, xattrs: u64) -> Self {
        let content = matches!(stat.kind, Kind::File | Kind::Symlink);
        let device = matches!(stat.kind, Kind::Block | Kind::Char);
        Self {
            size: if content { stat.size } else { 0 },
            vague: stat.kind == Kind::File && stat.allocated == 0,
            mtime: stat.mtime,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            rdev: if device { stat.rdev } else { 0 },
            xattrs,
        }
    }
}
