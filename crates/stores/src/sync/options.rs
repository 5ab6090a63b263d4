//! What a sync is asked for.

use std::time::Duration;

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::job::resources::Resources;
use bulkhaul_engine::sweep::limit::MaxDelete;
use bulkhaul_engine::tree::selection::Rules;
use bulkhaul_formats::hive::Conditions;
use bulkhaul_sys::Time;

use crate::s3::Config;
use crate::session::SessionOptions;

/// How two entries of one key are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// By size.
    Size,
    /// By size and last change.
    #[default]
    Mtime,
    /// By content.
    Checksum,
    /// Not at all: each goes over.
    Always,
    /// By what the state file says that both were; where it says nothing, by size and last change.
    State,
}

/// What becomes of a key that both sides have otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// The source's comes in its place.
    #[default]
    Source,
    /// The one that changed last stays.
    Newer,
    /// The longer one stays.
    Larger,
    /// The destination's stays.
    Destination,
    /// The source's comes in its place, and the destination's stays beside it, under a name with the time of its last change.
    KeepBoth,
    /// It is an error.
    Fail,
}

/// What is proved of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// That it is as long as it should be, and what the store itself checks.
    #[default]
    Size,
    /// Its content, by a sum that the store vouches for; else it is read back.
    Hash,
    /// Its content: it is read back.
    Full,
}

/// Which entries of the source are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen {
    /// Changed at or after this moment.
    pub since: Option<Time>,
    /// Changed before or at this moment.
    pub until: Option<Time>,
    /// So many bytes or more.
    pub least: Option<u64>,
    /// So many bytes or fewer.
    pub most: Option<u64>,
}

/// Keys that were named, relative to both places.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// What is brought over, and the name that it has in the destination, where that is another.
    pub taken: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What is removed from the destination, after that.
    pub removed: Vec<Vec<u8>>,
}

/// Contents that go over together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// So many; 1 or more.
    pub size: u64,
    /// How long nothing is begun after them.
    pub pause: Duration,
}

/// A sync, as asked for.
#[derive(Clone, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the command line"
)]
pub struct SyncOptions {
    /// URL or path.
    pub source: Vec<u8>,
    /// URL or path.
    pub destination: Vec<u8>,
    /// How the store of the source is reached.
    pub source_config: Config,
    /// The same of the destination.
    pub destination_config: Config,
    /// The same of where is kept what is replaced or removed.
    pub backup_config: Config,
    /// How two entries are told apart.
    pub compare: Compare,
    /// What becomes of what both sides have otherwise.
    pub conflict: Conflict,
    /// What is proved.
    pub proof: Proof,
    /// Exclude rules; what they exclude is nowhere looked at.
    pub filter: Option<Rules>,
    /// Which entries are taken.
    pub chosen: Chosen,
    /// Only what is in partitions for which these hold; what is not is nowhere looked at.
    pub partition: Option<Vec<u8>>,
    /// Keys that were named: nothing is listed, and nothing else is done.
    pub names: Option<Names>,
    /// Remove from the destination what the source does not have.
    pub delete: bool,
    /// Remove nothing when it would be more than this.
    pub max_delete: Option<MaxDelete>,
    /// URL or path: what is replaced or removed in the destination is kept there.
    pub backup: Option<Vec<u8>>,
    /// Contents go over in batches.
    pub batch: Option<Batch>,
    /// Symlinks are carried, in a store as objects with another name.
    pub links: bool,
    /// Empty directories are carried, in a store as objects that end in a slash.
    pub markers: bool,
    /// Where it is written down what both sides were.
    pub state: Option<Vec<u8>>,
    /// Where uploads in parts are written down, so that the next run goes on with them.
    pub uploads: Option<Vec<u8>>,
    /// Uploads in the destination, and where is kept what is replaced or removed, that began before this moment and have not ended are given up first.
    pub abort_stale: Option<Time>,
    /// Do nothing; tell what would be done.
    pub dry_run: bool,
    /// Modes that a store has kept are set on local files; otherwise a new file has those of any, and a replaced one keeps its own.
    pub modes: bool,
    /// Local files are synced before they count as finished.
    pub sync: bool,
    /// Requests and parts.
    pub session: SessionOptions,
    /// Entries at work at once; 0: as many as suit the places.
    pub jobs: usize,
    /// What it may take of the machine.
    pub resources: Resources,
    /// Directory for temporary files without a name; none: memory is used.
    pub spill_directory: Option<Vec<u8>>,
    /// An event for each entry.
    pub entry_events: bool,
}

/// The most that may be asked for.
const MOST_JOBS: usize = 1024;

impl SyncOptions {
    /// Refuses what can't be meant.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.jobs > MOST_JOBS {
            return Err(Refusal::Usage(format!("jobs: {} is more than {MOST_JOBS}", self.jobs)));
        }
        self.max_delete.map_or(Ok(()), MaxDelete::check)?;
        if let Some(names) = &self.names {
            let taken = names
                .taken
                .iter()
                .flat_map(|(name, to)| std::iter::once(name).chain(to));
            let mut all = taken.chain(&names.removed);
            if all.any(|name| name.is_empty() || name.contains(&0)) {
                return Err(Refusal::Usage("a name is empty, or holds a NUL byte".into()));
            }
            if self.filter.is_some() || self.delete {
                let text = "where names are given, what is taken and what is removed is said by them";
                return Err(Refusal::Usage(text.into()));
            }
        }
        if self.conflict == Conflict::KeepBoth && self.delete {
            let text = "conflict: what keep-both has kept only the destination has, and delete would remove it";
            return Err(Refusal::Usage(text.into()));
        }
        self.conditions()?;
        if self.batch.is_some_and(|batch| batch.size == 0) {
            return Err(Refusal::Usage("batch-size: a batch is 1 or more".into()));
        }
        if self.compare == Compare::State && self.state.is_none() {
            return Err(Refusal::Usage("compare: state needs a state file".into()));
        }
        Ok(())
    }

    /// What has to hold of partitions.
    pub fn conditions(&self) -> Result<Option<Conditions>, Refusal> {
        let conditions = self.partition.as_deref().map(Conditions::parse).transpose();
        conditions.map_err(|error| Refusal::Usage(format!("partition: {error}")))
    }
}
