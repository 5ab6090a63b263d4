//! What a copy is asked to do: as given, and checked.
//!
//! [`CopyOptions`] is what a caller fills in; [`CopyOptions::check`] turns it into [`Rules`], which everything after it
//! trusts without looking again.

use std::collections::HashMap;

use bulkhaul_formats::chmod::Chmod;
use bulkhaul_formats::codec::names::Extensions;
use bulkhaul_formats::codec::{Codec, Format as ArchiveFormat};
use bulkhaul_formats::digest::{Algorithm, TAIL_BYTES};
use bulkhaul_formats::manifest::Format;

use crate::bytes::codec::bound;
use crate::bytes::probe::tail;
use crate::bytes::transfer::Sparse;
use crate::error::Refusal;
use crate::job::process::Process;
use crate::job::resources::{MAX_JOBS, Resources, check_jobs};
use crate::pool::tune::{Medium, Range};
use crate::records::manifest::Making;
use crate::records::pieces::Shared;
use crate::report::Durability;
use crate::sweep::limit::MaxDelete;
use crate::tree::keep::Keep;
use crate::tree::path;
use crate::tree::selection::{self, Selection};
pub use crate::walk::names::FilesFrom;

/// The part of the memory that may be used which codecs take, where nobody says.
const MEMORY_SHARE: u64 = 2;
/// Inodes with several links that are kept in memory by default, each with what leads to its directory.
const LINKS_IN_MEMORY: usize = 1 << 16;

/// One source argument.
#[derive(Clone, Debug)]
pub struct SourceArgument {
    /// Its path, as given.
    pub path: Vec<u8>,
    /// The directory's contents go into the destination, not the entry itself.
    pub contents: bool,
    /// Name in the destination, where it is not the source's own.
    pub name: Option<Vec<u8>>,
    /// Follow the argument when it is a symlink to a directory.
    pub follow: bool,
}

/// One destination directory.
#[derive(Clone, Debug)]
pub struct DestinationArgument {
    /// Its path, as given.
    pub path: Vec<u8>,
    /// Follow the last component when it is a symlink to a directory.
    pub follow: bool,
}

/// Where a file goes that is in none of several destinations.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Number of its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that it takes, which no other file may have there.
    pub room: u64,
    /// Index of the destination.
    pub destination: usize,
}

/// The most files that are placed.
pub const MOST_PLACED: usize = 1 << 20;

/// Which directories are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Directories {
    /// All, with their metadata.
    #[default]
    All,
    /// All, and nothing else.
    Only,
    /// Those that hold something, without metadata.
    Needed,
}

/// What is copied where several sources bring one name, and not all of them a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collision {
    /// That of the last; what others have with other content is a failure.
    #[default]
    Fail,
    /// That of the last source.
    Last,
    /// That of the first source.
    First,
}

/// A manifest that is made in the copying pass.
#[derive(Clone, Debug)]
pub struct ManifestTo {
    /// Where it goes.
    pub path: Vec<u8>,
    /// How it is written.
    pub format: Format,
    /// Digests of each file; none: as the format has it.
    pub algorithms: Vec<Algorithm>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
}

/// A file with all content of a source, written and synced.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Its name beside the copy that is to be.
    pub name: Vec<u8>,
    /// Which version of the source it is of: inode, size, times of modification and of change in nanoseconds, with blanks
    /// between.
    pub version: String,
}

/// Files that become archives on their way.
#[derive(Clone, Debug)]
pub struct Packing {
    /// Form of the archives.
    pub format: ArchiveFormat,
    /// In the format's own range; `None`: its default.
    pub level: Option<u32>,
    /// What names end with: of several parts perhaps, in any case; none: anything.
    pub extensions: Vec<Vec<u8>>,
    /// Smaller ones are copied as they are, in bytes.
    pub min_size: u64,
    /// Write an index beside each archive.
    pub index: bool,
    /// Memory for codecs in bytes; `None`: half of what may be used.
    pub memory: Option<u64>,
    /// What has the name of an archive and other content gives that up; otherwise that is a conflict.
    pub replace: bool,
    /// With the proof of what was written, each file is read once more, and has to give the same again.
    pub verify_source: bool,
}

impl Packing {
    fn check(&self, process: &Process) -> Result<Packed, Refusal> {
        let codec = Codec::new(self.format, self.level).map_err(|why| Refusal::Usage(why.to_string()))?;
        if self.index && self.format != ArchiveFormat::Bgzf {
            let format = self.format.name();
            return Err(Refusal::Usage(format!("index: {format} has none; bgzf has")));
        }
        let extensions = Extensions::new(&self.extensions)
            .map_err(|wrong| Refusal::Usage(format!("extensions: '{}' is none", path::show(&wrong))))?;
        Ok(Packed {
            codec,
            extensions,
            min_size: self.min_size,
            index: self.index,
            replace: self.replace,
            verify_source: self.verify_source,
            memory: bound(self.memory, process.memory / MEMORY_SHARE, codec)?,
        })
    }
}

/// The same, checked.
#[derive(Debug)]
pub struct Packed {
    /// What makes archives.
    pub codec: Codec,
    /// Of which files.
    pub extensions: Extensions,
    /// Smaller ones are copied as they are.
    pub min_size: u64,
    /// With an index beside each.
    pub index: bool,
    /// Other content gives its name up.
    pub replace: bool,
    /// Memory for codecs in bytes.
    pub memory: u64,
    /// Files are read twice.
    pub verify_source: bool,
}

/// A copy, as asked for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct CopyOptions {
    /// What to copy.
    pub sources: Vec<SourceArgument>,
    /// Where to; more than one: each file to one of them.
    pub destinations: Vec<DestinationArgument>,
    /// Make absent destinations, with parents.
    pub create_destination: bool,
    /// Allow a destination below a source; it is not descended into.
    pub allow_nested: bool,
    /// What is copied where several sources bring one name.
    pub on_collision: Collision,
    /// Exclude rules and their style.
    pub filter: Option<selection::Rules>,
    /// Copy only what a list names.
    pub files_from: Option<FilesFrom>,
    /// Bytes at the end that the skip test compares; 0: none.
    pub hash_size: u64,
    /// The skip test compares whole files.
    pub full_hash: bool,
    /// Holes.
    pub sparse: Sparse,
    /// Durability.
    pub sync: Durability,
    /// Worker threads at most; 0: from affinity, cgroup, and what holds the files.
    pub jobs: usize,
    /// Bytes to one destination from which on no page is left in the cache; `None`: half of the memory that is available.
    pub memory: Option<u64>,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Plan and probe, don't act.
    pub dry_run: bool,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Follow symlinks to directories in the destination.
    pub keep_dirlinks: bool,
    /// Which directories are made.
    pub directories: Directories,
    /// Also copy targets of relative links that would dangle.
    pub link_tracking: bool,
    /// No metadata at all.
    pub content_only: bool,
    /// Keep owner and group.
    pub owner: bool,
    /// Keep permission bits, and the ACLs that go with them.
    pub permissions: bool,
    /// Keep ACLs.
    pub acls: bool,
    /// Keep extended attributes and capabilities.
    pub xattrs: bool,
    /// Keep times.
    pub times: bool,
    /// Owner to set instead.
    pub chown_user: Option<u32>,
    /// Group to set instead.
    pub chown_group: Option<u32>,
    /// Permission changes in rsync's `--chmod` syntax.
    pub chmod: Option<String>,
    /// Size the sources first, refuse when they don't fit.
    pub require_space: bool,
    /// Read everything back and compare, also what the skip test passes over.
    pub verify: bool,
    /// Inodes with several links that are kept in memory at most; the rest go to a file in `spill_directory`.
    pub links_in_memory: usize,
    /// Directory for temporary files of the job, made without a name when they are needed; `None`: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// Remove from directories of the destination what is in none of the sources that were copied into them.
    pub remove_extra: bool,
    /// Remove each source entry whose copy was synced, read back and matched.
    pub remove_sources: bool,
    /// In a move, an entry gets its new place by a rename where its destination is free and lies on its file system.
    pub rename: bool,
    /// What is other content, or another kind of entry, gives its name in the destination up; otherwise that is a conflict.
    pub replace: bool,
    /// In a move, remove also entries with a time that the destination can't keep.
    pub accept_time_loss: bool,
    /// How much may be deleted; beyond it nothing is.
    pub max_delete: Option<MaxDelete>,
    /// Ask whoever watches the job before extra entries and sources are removed: once, where both are.
    pub confirm: bool,
    /// A file goes to one of several destinations by chance, not to the first with room.
    pub scatter: bool,
    /// Files that go to a certain one of several destinations; any other goes to the first that has room beside them.
    pub placement: Vec<Placement>,
    /// A manifest of what is there then, digests of what was there already included. Of what became an archive, the content
    /// under the name that it has in the source.
    pub manifest: Option<ManifestTo>,
    /// The same of what is stored: of what became an archive, that. With the same digests.
    pub stored_manifest: Option<ManifestTo>,
    /// Files that become archives on their way.
    pub packing: Option<Packing>,
    /// What others have gathered of the one file of a list. It becomes the copy; where it can't, the file is copied.
    pub gathered: Option<Gathered>,
    /// Files that the caller has open meanwhile: they stay, and nothing takes their place.
    pub in_use: Vec<Vec<u8>>,
    /// A file of the job's own, in which it says what it has proved with `verify`, so that the next run goes on should this
    /// one die; it goes with the end.
    pub finished: Option<Vec<u8>>,
    /// Others that do parts of this copy.
    pub shared: Shared,
    /// Send an event for each entry.
    pub entry_events: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            destinations: Vec::new(),
            create_destination: true,
            allow_nested: false,
            on_collision: Collision::default(),
            filter: None,
            files_from: None,
            hash_size: TAIL_BYTES,
            full_hash: false,
            sparse: Sparse::default(),
            sync: Durability::default(),
            jobs: 0,
            memory: None,
            resources: Resources::default(),
            dry_run: false,
            one_file_system: false,
            keep_dirlinks: false,
            directories: Directories::default(),
            link_tracking: false,
            content_only: false,
            owner: true,
            permissions: true,
            acls: true,
            xattrs: true,
            times: true,
            chown_user: None,
            chown_group: None,
            chmod: None,
            require_space: false,
            verify: false,
            links_in_memory: LINKS_IN_MEMORY,
            spill_directory: None,
            remove_extra: false,
            remove_sources: false,
            rename: false,
            replace: true,
            accept_time_loss: false,
            max_delete: None,
            confirm: false,
            scatter: false,
            placement: Vec::new(),
            manifest: None,
            stored_manifest: None,
            packing: None,
            gathered: None,
            in_use: Vec::new(),
            finished: None,
            shared: Shared::default(),
            entry_events: false,
        }
    }
}

/// What was asked for, checked, and what was made of it.
#[derive(Debug)]
pub struct Rules {
    /// As it was given.
    pub asked: CopyOptions,
    /// What is taken.
    pub filter: Selection,
    /// Bytes at the end that the skip test compares; `u64::MAX`: all.
    pub tail: u64,
    /// Durability.
    pub sync: Durability,
    /// Bytes to one destination from which on no page is left in the cache.
    pub memory: u64,
    /// Processors that may be used.
    pub processors: usize,
    /// Metadata.
    pub keep: Keep,
    /// Metadata that comes from what is replaced.
    pub keep_replaced: Option<Keep>,
    /// Which files become archives on their way, and how.
    pub packing: Option<Packed>,
    /// Inode and size of placed files, and where they go.
    pub placed: HashMap<(u64, u64), Placement>,
}

impl Rules {
    /// How many workers may be at work on these media.
    pub fn range(&self, media: &[Medium]) -> Range {
        Range::of(media, self.processors, self.asked.jobs)
    }

    /// The most that there may be on any.
    pub fn most_workers(&self) -> usize {
        self.range(&[Medium::Network]).ceiling
    }
}

impl CopyOptions {
    fn check_paths(&self) -> Result<(), Refusal> {
        for path in self
            .sources
            .iter()
            .map(|s| &s.path)
            .chain(self.destinations.iter().map(|d| &d.path))
        {
            path::check(path)?;
        }
        for name in self.sources.iter().filter_map(|s| s.name.as_ref()) {
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
                let name = path::show(name);
                return Err(Refusal::Usage(format!("{name}: not a name for an entry")));
            }
        }
        Ok(())
    }

    fn check_placement(&self) -> Result<(), Refusal> {
        if self.placement.len() > MOST_PLACED {
            return Err(Refusal::Usage(format!("at most {MOST_PLACED} files can be placed")));
        }
        let known = |file: &Placement| file.destination < self.destinations.len();
        if self.placement.iter().all(known) {
            return Ok(());
        }
        Err(Refusal::Usage("a file is placed where there is no destination".into()))
    }

    /// Checks everything that can be checked without looking at the disk.
    pub fn check(mut self, process: &Process) -> Result<Rules, Refusal> {
        let usage = |text: String| Err(Refusal::Usage(text));
        if self.sources.is_empty() {
            return usage("no source is given".into());
        }
        if self.destinations.is_empty() {
            return usage("no destination is given".into());
        }
        self.check_paths()?;
        self.check_placement()?;
        check_jobs(self.jobs, process.processors)?;
        if self.files_from.is_some() && (self.sources.len() != 1 || !self.sources[0].contents) {
            return usage("files-from needs exactly one source directory".into());
        }
        let mut making: Option<Making> = None;
        for to in [&self.manifest, &self.stored_manifest].into_iter().flatten() {
            path::check(&to.path)?;
            let made = Making::new(to.format, &to.algorithms)?;
            if making.is_some_and(|other| !other.is_like(&made)) {
                return usage("both manifests are of one form, with the same digests".into());
            }
            making = Some(made);
            self.in_use.push(to.path.clone());
        }
        self.max_delete.map_or(Ok(()), MaxDelete::check)?;
        if self.gathered.is_some() && (self.files_from.is_none() || self.destinations.len() > 1) {
            return usage("what was gathered is of the one file of a list, and in one destination".into());
        }
        if self.remove_extra && self.files_from.is_some() {
            return usage("extra entries can't be told where only the names of a list are copied".into());
        }
        if self.rename && (!self.remove_sources || self.remove_extra || self.max_delete.is_some() || self.confirm) {
            return usage("renaming goes with a move that removes nothing else and is not limited".into());
        }
        let dressed = self.chown_user.is_some() || self.chown_group.is_some() || self.chmod.is_some();
        if self.rename && (dressed || self.content_only) {
            return usage("what is renamed keeps its metadata".into());
        }
        if self.remove_extra && !self.replace {
            return usage("what is extra can't go where nothing is replaced".into());
        }
        if !self.verify && self.packing.as_ref().is_some_and(|packing| packing.verify_source) {
            return usage("verifySource goes with verify".into());
        }
        if self.packing.is_some() && (self.remove_sources || self.destinations.len() > 1) {
            return usage("what becomes an archive stays in its source, and goes to one destination".into());
        }
        let packing = self
            .packing
            .as_ref()
            .map(|packing| packing.check(process))
            .transpose()?;
        let filter = Selection::of(self.filter.as_ref())?;
        let chmod = match &self.chmod {
            Some(text) => Some(Chmod::parse(text, process.umask).map_err(|e| Refusal::Usage(format!("chmod: {e}")))?),
            None => None,
        };
        let all = !self.content_only;
        let keep = Keep {
            mode: all && self.permissions,
            owner: all && self.owner,
            times: all && self.times,
            time_loss: self.accept_time_loss,
            acls: all && self.permissions && self.acls,
            xattrs: all && self.xattrs,
            capabilities: all && self.xattrs,
            user: self.chown_user,
            group: self.chown_group,
            chmod,
            umask: process.umask,
            reach: process.reach.clone(),
        };
        Ok(Rules {
            filter,
            // What a move takes for the same, it deletes: it has to be the same as a whole.
            tail: if self.remove_sources {
                u64::MAX
            } else {
                tail(self.hash_size, self.full_hash)
            },
            memory: self.memory.unwrap_or(process.memory / 2),
            sync: if self.remove_sources {
                Durability::All
            } else {
                self.sync
            },
            processors: process.processors.clamp(1, MAX_JOBS),
            keep_replaced: keep.of_replaced(),
            packing,
            placed: self
                .placement
                .iter()
                .map(|file| ((file.inode, file.size), *file))
                .collect(),
            keep,
            asked: self,
        })
    }
}
