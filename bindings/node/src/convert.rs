//! Conversion between the engine's values and JavaScript's: one function each way.
//!
//! Paths are buffers. Sizes are numbers, exact to 2^53 bytes (8 PiB); what is larger is rounded. Times are seconds.

mod compare;
mod compress;
mod copy;
mod doctor;
mod list;
mod partition;
mod patch;
mod remove;

pub use bulkhaul_job::manifests::{ManifestOptions, VerifyOptions, manifest_options, verify_options};
use bulkhaul_job::options::{
    Filter, JsLimits, NamesFrom, Tree, choice, files_from, filter, max_delete, paths, resources, roots,
};
pub use bulkhaul_job::shards::{PackOptions, UnpackOptions, pack_options, unpack_options};

pub use self::compare::{CompareOptions, compare_options};
pub use self::compress::{CompressOptions, DecompressOptions, compress_options, decompress_options};
pub use self::copy::{CopyOptions, copy_options};
pub use self::doctor::{JsAnswer, JsProbe, answer, probe};
pub use self::list::{ListOptions, list_options};
pub use self::partition::{PartitionOptions, partition_options};
pub use self::patch::{PatchOptions, patch_options};
pub use self::remove::{RemoveOptions, remove_options};

fn hash_size(given: Option<i64>, default: u64) -> Result<u64, String> {
    match given {
        None => Ok(default),
        Some(bytes) => u64::try_from(bytes).map_err(|_| format!("hashSize: {bytes} is not a number of bytes")),
    }
}
