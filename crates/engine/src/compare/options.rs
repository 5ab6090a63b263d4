//! What a comparison is asked to do: as given, and checked.
//!
//! [`CompareOptions`] is what a caller fills in; [`Checked`] is what everything after it trusts.

use bulkhaul_formats::digest::TAIL_BYTES;
use bulkhaul_formats::lists::hpcp::Form;

use crate::bytes::probe::tail;
use crate::job::resources::{Resources, Staff};
use crate::records::sort::SORT_BYTES;
use crate::tree::path::{join, trim};
use crate::tree::selection::{self, Selection};
use crate::walk::start::Root;

/// One side.
#[derive(Clone, Debug)]
pub enum SideOptions {
    /// Trees, as arguments.
    Trees(Vec<Root>),
    /// A list as [`crate::list`] or hpcp writes it.
    List {
        /// Its file.
        path: Vec<u8>,
        /// Its form, where it does not tell itself.
        form: Option<Form>,
    },
}

impl SideOptions {
    /// Full path of an entry of a side.
    pub fn full_path(&self, path: &[u8]) -> Vec<u8> {
        match self {
            SideOptions::Trees(roots) => match &roots[..] {
                [root] => join(trim(&root.path), path),
                _ => path.to_vec(),
            },
            SideOptions::List { .. } => path.to_vec(),
        }
    }
}

/// How the contents of files are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Not at all, sizes aside.
    Nothing,
    /// By a hash of their ends.
    #[default]
    Tail,
    /// Byte for byte, where the sizes are equal.
    Whole,
}

/// What the file of differences is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiffForm {
    /// hpcp: what the right side has, then what the left side has with `-` and NUL in front.
    #[default]
    Both,
    /// `tar -T`: what the right side has.
    Tar,
    /// The change list of hpcp 9.79: how to turn the right side into the left one, with what is known of both.
    Changes,
}

/// A comparison, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct CompareOptions {
    /// What is, or was.
    pub left: SideOptions,
    /// What it is compared with.
    pub right: SideOptions,
    /// Where a side is one entry, or a list of one directory, its name does not matter.
    pub align: bool,
    /// Exclude rules and their style, for trees.
    pub filter: Option<selection::Rules>,
    /// Contents of files.
    pub content: Content,
    /// Bytes at the end that are hashed.
    pub hash_size: u64,
    /// Also mode, owner and time, where both sides are trees.
    pub metadata: bool,
    /// With the metadata, times of directories.
    pub directory_times: bool,
    /// Of times only whole seconds count: one of the sides keeps no more.
    pub whole_seconds: bool,
    /// With the metadata, extended attributes.
    pub xattrs: bool,
    /// FIFOs, sockets and devices too, where both sides are trees.
    pub specials: bool,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Where the differences go.
    pub output: Option<Vec<u8>>,
    /// In which form.
    pub form: DiffForm,
    /// A file of the job's own, in which it says what it has read, so that the next run goes on should this one die; it goes
    /// with the end.
    pub finished: Option<Vec<u8>>,
    /// Directory for temporary files without a name, for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Send an event for each entry that differs.
    pub entry_events: bool,
}

impl CompareOptions {
    /// The usual comparison of these two.
    pub fn new(left: SideOptions, right: SideOptions) -> Self {
        Self {
            left,
            right,
            align: true,
            filter: None,
            content: Content::default(),
            hash_size: TAIL_BYTES,
            metadata: false,
            directory_times: true,
            whole_seconds: false,
            xattrs: false,
            specials: true,
            one_file_system: false,
            output: None,
            form: DiffForm::default(),
            finished: None,
            spill_directory: None,
            sort_memory: SORT_BYTES,
            jobs: 0,
            resources: Resources::default(),
            entry_events: false,
        }
    }
}

/// A comparison with its checked options.
pub struct Checked {
    /// As they were given, with paths that can be walked.
    pub options: CompareOptions,
    /// What is taken of trees.
    pub filter: Selection,
    /// How many workers it has.
    pub staff: Staff,
}

impl Checked {
    /// Whether both sides are trees.
    pub fn both_trees(&self) -> bool {
        let tree = |side: &SideOptions| matches!(side, SideOptions::Trees(_));
        tree(&self.options.left) && tree(&self.options.right)
    }

    /// Both sides are one tree each, whose names do not matter: their files can be found again by path.
    pub fn readable(&self) -> bool {
        let one = |side: &SideOptions| matches!(side, SideOptions::Trees(roots) if roots.len() == 1);
        self.options.align && one(&self.options.left) && one(&self.options.right)
    }

    /// Whether a change list of hpcp is written.
    pub fn tells_changes(&self) -> bool {
        self.options.output.is_some() && self.options.form == DiffForm::Changes
    }

    /// Whether contents are compared byte for byte, after the walk.
    pub fn reads(&self) -> bool {
        self.options.content == Content::Whole && self.readable()
    }

    /// Bytes at the ends of files that are hashed in the walk.
    pub fn tail(&self) -> u64 {
        match self.options.content {
            Content::Nothing => 0,
            // With a list there is nothing to read on the other side.
            Content::Whole if self.reads() => 0,
            Content::Whole => tail(self.options.hash_size, true),
            Content::Tail => self.options.hash_size,
        }
    }
}
