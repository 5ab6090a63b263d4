//! What is asked of a compression or a decompression, checked once.
//!
//! Comes in: options; goes out: [`Rules`], which are trusted after.

use std::ffi::{CStr, CString};

use bulkhaul_formats::codec::names::{self, Extensions};
use bulkhaul_formats::codec::{Codec, Format};

use crate::bytes::codec::bound;
use crate::error::Refusal;
use crate::job::process::Process;
use crate::job::resources::{Resources, Staff};
use crate::tree::keep::Keep;
use crate::tree::path::{self, show};
use crate::tree::selection::{self, Selection};
use crate::walk::names::FilesFrom;
use crate::walk::start::{Root, check_roots};

/// The part of the memory that may be used which codecs take, where nobody says.
const MEMORY_SHARE: u64 = 2;

/// Which files are meant, and what holds whatever is done with them.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct Files {
    /// Files and trees; a symlink is not followed.
    pub sources: Vec<Root>,
    /// Only what a list names below the one source, a directory.
    pub files_from: Option<FilesFrom>,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// What names end with, the archive's suffix left out: of several parts perhaps, in any case; none: anything.
    pub extensions: Vec<Vec<u8>>,
    /// Smaller ones are left alone, in bytes.
    pub min_size: u64,
    /// What a file was made of stays.
    pub keep: bool,
    /// Owner and group need not be kept.
    pub no_owner: bool,
    /// Files and directories that the caller uses meanwhile: they are left out.
    pub in_use: Vec<Vec<u8>>,
    /// Memory for codecs in bytes; `None`: half of what may be used.
    pub memory: Option<u64>,
    /// Worker threads; 0: as many as serve best on the media.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Where a dry run puts what it tells in order, if memory should not hold it; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Send an event for each entry, in a dry run in the order of their paths.
    pub entry_events: bool,
}

/// A compression, as asked for.
#[derive(Clone, Debug)]
pub struct CompressOptions {
    /// Of what.
    pub files: Files,
    /// Form of the archives.
    pub format: Format,
    /// In the format's own range; `None`: its default.
    pub level: Option<u32>,
    /// Write an index beside each archive.
    pub index: bool,
    /// Also where the archive is not smaller.
    pub force: bool,
    /// Each file is read once more, and has to give the same again.
    pub verify_source: bool,
}

impl Default for CompressOptions {
    fn default() -> Self {
        Self {
            files: Files::default(),
            format: Format::Bgzf,
            level: None,
            index: false,
            force: false,
            verify_source: false,
        }
    }
}

/// A decompression, as asked for.
#[derive(Clone, Debug, Default)]
pub struct DecompressOptions {
    /// Of what.
    pub files: Files,
    /// Read, and write nothing.
    pub test: bool,
    /// Where the content of the one file goes, which stays.
    pub output: Option<Vec<u8>>,
    /// Zeros become holes.
    pub sparse: bool,
}

/// What is done with a file.
#[derive(Clone, Debug)]
pub enum Deed {
    /// It becomes an archive.
    Pack {
        /// What makes it.
        codec: Codec,
        /// With an index beside it.
        index: bool,
        /// Also where it is not smaller.
        force: bool,
        /// The file is read twice.
        twice: bool,
    },
    /// An archive becomes its content.
    Unpack {
        /// Zeros become holes.
        sparse: bool,
    },
    /// An archive is read.
    Test,
    /// An archive's content goes to this path, which may be a stream.
    Print(Vec<u8>),
}

/// Checked options.
pub struct Rules {
    /// As they were asked for.
    pub asked: Files,
    /// What is done.
    pub deed: Deed,
    /// The sources.
    pub roots: Vec<Root>,
    /// What is taken.
    pub filter: Selection,
    /// The same by extensions.
    pub extensions: Extensions,
    /// Metadata.
    pub keep: Keep,
    /// That of an index: who may read it.
    pub keep_index: Keep,
    /// Threads.
    pub staff: Staff,
    /// For codecs, in bytes.
    pub memory: u64,
}

/// A file that is meant, by its name.
pub struct Chosen {
    /// The name that what is made of it gets; empty where nothing is made.
    pub target: CString,
    /// What it is counted under.
    pub extension: Vec<u8>,
}

impl Rules {
    /// Whether a file is meant, by its name. `named`: an argument names it, and it was not found.
    pub fn choose(&self, name: &CStr, named: bool) -> Option<Chosen> {
        let (target, extension) = match &self.deed {
            Deed::Pack { codec, .. } => (names::archive_of(name, codec.format()), self.extensions.of(name)?),
            // What goes to a stream was named by itself.
            Deed::Print(_) => Default::default(),
            Deed::Unpack { .. } | Deed::Test => {
                // To be read it needs no name that could become another.
                let whatever = || (named && matches!(self.deed, Deed::Test)).then(|| name.to_owned());
                let content = names::content_of(name).or_else(whatever)?;
                let extension = self.extensions.of(&content)?;
                (content, extension)
            }
        };
        Some(Chosen { target, extension })
    }
}

impl CompressOptions {
    /// Checks all that can be checked without looking at the disk.
    pub fn check(self, process: &Process) -> Result<Rules, Refusal> {
        let Self {
            files,
            format,
            level,
            index,
            force,
            verify_source: twice,
        } = self;
        let codec = Codec::new(format, level).map_err(|why| Refusal::Usage(why.to_string()))?;
        if index && format != Format::Bgzf {
            let format = format.name();
            return Err(Refusal::Usage(format!("index: {format} has none; bgzf has")));
        }
        let deed = Deed::Pack {
            codec,
            index,
            force,
            twice,
        };
        files.check(deed, process)
    }
}

impl DecompressOptions {
    /// Checks all that can be checked without looking at the disk.
    pub fn check(self, process: &Process) -> Result<Rules, Refusal> {
        let Self {
            files,
            test,
            output,
            sparse,
        } = self;
        let deed = match output {
            Some(_) if test => {
                return Err(Refusal::Usage("test writes nothing, and output does".into()));
            }
            Some(_) if files.dry_run => {
                return Err(Refusal::Usage("output writes, and a dry run does not".into()));
            }
            Some(_) if files.sources.len() != 1 || files.files_from.is_some() => {
                return Err(Refusal::Usage("output takes the content of one file".into()));
            }
            Some(path) => Deed::Print(path),
            None if test => Deed::Test,
            None => Deed::Unpack { sparse },
        };
        files.check(deed, process)
    }
}

impl Files {
    /// `all`: not only who may do what.
    fn metadata(&self, process: &Process, all: bool) -> Keep {
        Keep {
            owner: !self.no_owner,
            times: all,
            xattrs: all,
            capabilities: all,
            ..Keep::whole(process.umask, process.reach.clone())
        }
    }

    fn check(self, deed: Deed, process: &Process) -> Result<Rules, Refusal> {
        if self.sources.is_empty() {
            return Err(Refusal::Usage("no file is given".into()));
        }
        let roots = check_roots(&self.sources)?;
        if let Some(from) = &self.files_from {
            path::check(&from.path)?;
            if self.sources.len() != 1 {
                return Err(Refusal::Usage("files-from needs exactly one directory".into()));
            }
        }
        let extensions = Extensions::new(&self.extensions)
            .map_err(|wrong| Refusal::Usage(format!("extensions: '{}' is none", show(&wrong))))?;
        let otherwise = process.memory / MEMORY_SHARE;
        let memory = match &deed {
            Deed::Pack { codec, .. } => bound(self.memory, otherwise, *codec)?,
            // What an archive needs, it says itself.
            Deed::Unpack { .. } | Deed::Test | Deed::Print(_) => self.memory.unwrap_or(otherwise),
        };
        Ok(Rules {
            deed,
            roots,
            filter: Selection::of(self.filter.as_ref())?,
            extensions,
            keep: self.metadata(process, true),
            keep_index: self.metadata(process, false),
            staff: Staff::of(self.jobs, process.processors)?,
            memory,
            asked: self,
        })
    }
}
