//! The manifests of a verification, as one sequence of entries.
//!
//! Comes in: paths of manifests, and the directory that theirs begin in; goes out: [`Claims`], one a path, in the order of
//! [`path_key`]. A manifest with a line that is refused, or of an algorithm that its files are not of, and two lines that
//! disagree, are a refusal with the number of the line: half of a manifest proves nothing.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use bulkhaul_formats::digest::{Algorithm, Digest, Hashers};
use bulkhaul_formats::manifest::{
    Entry, Format, Listed, ManifestError, Merge, Problem, Reader, Recognised, bare, inside, recognise,
};
use bulkhaul_sys::{Errno, Kind};

use super::files::Source;
use crate::bytes::stream::name_of;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::entry;
use crate::records::listfile::ListFile;
use crate::records::record::path_key;
use crate::records::sort::{Sorted, Sorter, Sorters};

/// One of these may have made a digest of 64 hexadecimal digits.
const TWO: [Algorithm; 2] = [Algorithm::Blake3, Algorithm::Sha256];
/// Entries that are looked at for files which tell which of the two it was.
const LOOKED_AT: usize = 100;
/// When so much of these was read, no other is begun: of one manifest, and where something names the algorithm of all.
const ENOUGH_BYTES: u64 = 256 << 20;

/// A manifest, and what its paths begin with below the directory.
#[derive(Clone, Debug)]
pub struct Given {
    /// Where it is.
    pub path: Vec<u8>,
    /// Empty, or with a slash at the end.
    pub prefix: Vec<u8>,
}

/// What manifests say of one path.
pub struct Claim {
    /// It.
    pub entry: Entry,
    /// What says so, for messages.
    pub place: Place,
}

/// A line of a manifest.
#[derive(Clone, Debug)]
pub struct Place {
    line: u64,
    manifest: Arc<str>,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {}", self.line, self.manifest)
    }
}

/// All that manifests say, each path once.
pub struct Claims {
    names: Vec<Arc<str>>,
    sorted: Sorted,
    /// Whether one of the manifests can say something of more than regular files.
    pub all_kinds: bool,
    /// Whether one of them can say what size a file has.
    pub sizes: bool,
}

/// The lines of all manifests by their paths.
struct Lines {
    names: Vec<Arc<str>>,
    sorted: Sorted,
    /// The first one of the next path.
    next: Option<(usize, Listed)>,
}

/// Reads manifests to their ends. `None`: the run is to stop.
pub(super) fn read(
    given: &[Given],
    algorithm: Option<Algorithm>,
    source: Source<'_>,
    (desk, sorters): (&Desk, &Sorters),
) -> Result<Option<Claims>, Refusal> {
    let mut intake = sorters.sorter();
    let (mut all_kinds, mut sizes, mut left) = (false, false, ENOUGH_BYTES);
    for (index, one) in given.iter().enumerate() {
        // Somebody may still be writing it.
        let resting = desk.resting();
        let Some(list) = ListFile::open(&one.path, sorters, &desk.cancel)? else {
            return Ok(None);
        };
        drop(resting);
        let Some(list) = list.unpacked(sorters, &desk.cancel)? else {
            return Ok(None);
        };
        let Some(list) = list.in_utf8(sorters, &desk.cancel)? else {
            return Ok(None);
        };
        let (list, recognised, head) = format_of(list, &one.path, sorters)?;
        all_kinds |= recognised.format == Format::Json;
        sizes |= matches!(recognised.format, Format::Json | Format::Hashdeep);
        let expected = algorithm.or(recognised.named);
        let way = Way {
            prefix: &one.prefix,
            slashes: is_of_windows((&recognised, expected), &head, &one.prefix, source),
        };
        if way.slashes {
            desk.note("backslashes", || {
                let what = "its paths have backslashes where Windows has them: they are taken for slashes";
                (one.path.clone(), what.into())
            });
        }
        // What is read for this is read twice: where its name tells the algorithm, a few files of all manifests are enough.
        let mut own = ENOUGH_BYTES;
        let budget = if expected.is_some() { &mut left } else { &mut own };
        let told = tell_apart((&recognised, expected), &head, way, (source, desk), budget);
        if desk.cancel.is_draining() {
            return Ok(None);
        }
        let algorithm = match told {
            Told::Nothing => expected,
            Told::Is(algorithm) if expected.is_none_or(|expected| expected == algorithm) => Some(algorithm),
            Told::Is(algorithm) => {
                let expected = expected.map_or("", Algorithm::name);
                return Err(list.refusal(&format!(
                    "its digests are of {algorithm}, where {expected} was expected"
                )));
            }
            Told::Neither if expected.is_some() => expected,
            // Whatever it is of, nothing that was looked at is as it says.
            Told::Neither => {
                desk.note("algorithm", || {
                    let what = "its digests may be of blake3 or of sha256, and no file tells which: they are taken for \
                                blake3 (--algorithm says it)";
                    (one.path.clone(), what.into())
                });
                Some(Algorithm::Blake3)
            }
        };
        read_one(
            &list,
            (index, way),
            Reader::new(recognised.format, algorithm),
            &mut intake,
            (desk, sorters),
        )?;
        if desk.cancel.is_draining() {
            return Ok(None);
        }
    }
    let names = given.iter().map(|one| name_of(&one.path).into()).collect();
    let each_once = intake.has_each_key_once();
    let sorted = Sorted::merge(vec![intake]).map_err(|errno| sorters.refusal(errno))?;
    if each_once {
        return Ok(Some(Claims {
            names,
            sorted,
            all_kinds,
            sizes,
        }));
    }
    let mut lines = Lines {
        names,
        sorted,
        next: None,
    };
    // Whether they agree is known before anything is read that they are about.
    let mut agreed = sorters.anew(1).sorter();
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    while let Some((index, listed)) = lines.agreed(sorters)? {
        if desk.cancel.is_draining() {
            return Ok(None);
        }
        path_key(&listed.entry.path, &mut key);
        encode(index, &listed, &mut payload);
        agreed.push(&key, &payload).map_err(|errno| sorters.refusal(errno))?;
    }
    Ok(Some(Claims {
        names: lines.names,
        sorted: Sorted::merge(vec![agreed]).map_err(|errno| sorters.refusal(errno))?,
        all_kinds,
        sizes,
    }))
}

/// A line as a sort holds it.
fn encode(index: usize, Listed { line, entry }: &Listed, payload: &mut Vec<u8>) {
    payload.clear();
    payload.extend_from_slice(&(index as u64).to_le_bytes());
    payload.extend_from_slice(&line.to_le_bytes());
    payload.extend_from_slice(&(entry.path.len() as u64).to_le_bytes());
    payload.extend_from_slice(&entry.path);
    entry::encode(entry, None, payload);
}

/// The next line of a sort, with the number of its manifest.
fn next(sorted: &mut Sorted, sorters: &Sorters) -> Result<Option<(usize, Listed)>, Refusal> {
    let Some((_, payload)) = sorted.next().map_err(|errno| sorters.refusal(errno))? else {
        return Ok(None);
    };
    let decoded = || {
        let number = |at: usize| Some(u64::from_le_bytes(*payload.get(at..)?.first_chunk()?));
        let length = usize::try_from(number(16)?).ok()?;
        let (path, rest) = payload.get(24..)?.split_at_checked(length)?;
        let (entry, _) = entry::decode(path, rest)?;
        let line = number(8)?;
        Some((usize::try_from(number(0)?).ok()?, Listed { line, entry }))
    };
    Ok(Some(decoded().ok_or_else(|| sorters.refusal(Errno::IO))?))
}

/// A manifest with its format, and its beginning. What is one digest and nothing else becomes a line.
fn format_of(list: ListFile, path: &[u8], sorters: &Sorters) -> Result<(ListFile, Recognised, Vec<u8>), Refusal> {
    let mut head = Vec::new();
    list.pieces(|piece| {
        head.extend_from_slice(piece);
        Ok(false)
    })?;
    if head.iter().all(u8::is_ascii_whitespace) {
        let empty = ManifestError {
            line: 1,
            problem: Problem::Empty,
        };
        return Err(list.refusal(&empty.to_string()));
    }
    if let Some(line) = bare(path, &head)
        && let Some(recognised) = recognise(path, &line)
    {
        return Ok((list.rewritten(&line, sorters)?, recognised, line));
    }
    if let Some(recognised) = recognise(path, &head) {
        return Ok((list, recognised, head));
    }
    Err(list.refusal("it is no manifest of a form that is known here"))
}

fn read_one(
    list: &ListFile,
    (index, way): (usize, Way<'_>),
    mut reader: Reader,
    sorter: &mut Sorter,
    (desk, sorters): (&Desk, &Sorters),
) -> Result<(), Refusal> {
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    let mut keep = |listed: Result<Listed, ManifestError>| {
        let refuse = |error: ManifestError| list.refusal(&error.to_string());
        let Listed { line, mut entry } = listed.map_err(refuse)?;
        entry.path = way
            .path(&entry.path)
            .map_err(|problem| refuse(ManifestError { line, problem }))?;
        path_key(&entry.path, &mut key);
        encode(index, &Listed { line, entry }, &mut payload);
        sorter.push(&key, &payload).map_err(|errno| sorters.refusal(errno))
    };
    list.pieces(|piece| {
        desk.step();
        reader.read(piece).try_for_each(&mut keep)?;
        Ok(!desk.cancel.is_draining())
    })?;
    if desk.cancel.is_draining() {
        return Ok(());
    }
    match reader.finish() {
        Ok(None) => Ok(()),
        Ok(Some(unended)) => keep(Ok(unended)),
        Err(error) => keep(Err(error)),
    }
}

/// How the paths of a manifest lead to files.
#[derive(Clone, Copy)]
struct Way<'w> {
    /// What they begin with below the directory.
    prefix: &'w [u8],
    /// Backslashes are slashes.
    slashes: bool,
}

impl Way<'_> {
    /// A path below the directory. What leads elsewhere is refused, also with backslashes.
    fn path(self, path: &[u8]) -> Result<Vec<u8>, Problem> {
        if !self.slashes {
            return Ok([self.prefix, path].concat());
        }
        let slashed: Vec<u8> = path
            .iter()
            .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
            .collect();
        let inside = inside(&slashed).map_err(|why| Problem::Path {
            path: String::from_utf8_lossy(path).into_owned(),
            why,
        })?;
        Ok([self.prefix, &inside].concat())
    }
}

/// Whether backslashes in the paths are slashes, as far as the first of them tell: no file has such a name, and some are there
/// with slashes.
fn is_of_windows(
    (recognised, expected): (&Recognised, Option<Algorithm>),
    head: &[u8],
    prefix: &[u8],
    source: Source<'_>,
) -> bool {
    let (as_it_is, slashed) = (Way { prefix, slashes: false }, Way { prefix, slashes: true });
    let mut files = source.files();
    let mut is_there = |way: Way<'_>, path: &[u8]| way.path(path).is_ok_and(|path| files.look(&path).is_some());
    let algorithm = expected.or(recognised.algorithms.first().copied());
    let mut reader = Reader::new(recognised.format, algorithm);
    let listed = reader.read(head).take(LOOKED_AT).filter_map(Result::ok);
    let paths = listed.map(|Listed { entry, .. }| entry.path);
    let mut found = false;
    for path in paths.filter(|path| path.contains(&b'\\')) {
        if is_there(as_it_is, &path) {
            return false;
        }
        found |= is_there(slashed, &path);
    }
    found
}

/// What files say of an algorithm.
enum Told {
    /// Nobody has to ask.
    Nothing,
    /// It is this one.
    Is(Algorithm),
    /// No file has either digest.
    Neither,
}

/// Tells BLAKE3 and SHA-256 apart, whose digests look alike, by the first files, the smallest before others: else one that
/// was named wrongly would make every file a mismatch.
fn tell_apart(
    (recognised, expected): (&Recognised, Option<Algorithm>),
    head: &[u8],
    way: Way<'_>,
    (source, desk): (Source<'_>, &Desk),
    budget: &mut u64,
) -> Told {
    if !recognised.algorithms.iter().any(|algorithm| TWO.contains(algorithm)) {
        return Told::Nothing;
    }
    // What is wrong with it the reader says.
    if expected.is_some_and(|expected| !TWO.contains(&expected)) {
        return Told::Nothing;
    }
    let mut there = source.files();
    let mut reader = Reader::new(recognised.format, Some(Algorithm::Blake3));
    let listed = reader.read(head).take(LOOKED_AT).filter_map(Result::ok);
    let mut files: Vec<(u64, Vec<u8>, Digest)> = listed
        .filter_map(|Listed { entry, .. }| {
            let path = way.path(&entry.path).ok()?;
            let (_, size) = there.look(&path).filter(|(kind, _)| *kind == Kind::File)?;
            Some((size, path, *entry.digest(Algorithm::Blake3)?))
        })
        .collect();
    files.sort();
    let mut hashers = Hashers::new(&TWO);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut first = true;
    for (size, path, digest) in &files {
        // Where nothing else tells it, one is read however long it is.
        let may = *size <= *budget || (first && expected.is_none());
        if !may || desk.cancel.is_draining() {
            break;
        }
        first = false;
        *budget = budget.saturating_sub(*size);
        let run = (desk, &desk.counters[0]);
        let Ok(made) = there.digests((path, *size), &mut hashers, run, &mut buffer) else {
            continue;
        };
        if let Some(like) = made.iter().find(|made| made.bytes() == digest.bytes()) {
            return Told::Is(like.algorithm());
        }
    }
    Told::Neither
}

impl Lines {
    /// What is said of the next path, as one line, with the number of the first manifest that says it.
    fn agreed(&mut self, sorters: &Sorters) -> Result<Option<(usize, Listed)>, Refusal> {
        let first = match self.next.take() {
            None => next(&mut self.sorted, sorters)?,
            first => first,
        };
        let Some((index, first)) = first else {
            return Ok(None);
        };
        let path = first.entry.path.clone();
        let refused = |name: &str, error: &ManifestError| Refusal::List(format!("{name}: {error}"));
        let mut merge = Merge::default();
        // The first of a path is never refused.
        let begun = merge.push(first);
        begun.map_err(|error| refused(&self.names[index], &error))?;
        while let Some((other, listed)) = next(&mut self.sorted, sorters)? {
            if listed.entry.path != path {
                self.next = Some((other, listed));
                break;
            }
            let merged = merge.push(listed);
            merged.map_err(|error| refused(&self.names[other], &error))?;
        }
        let listed = merge.finish().ok_or_else(|| sorters.refusal(Errno::IO))?;
        Ok(Some((index, listed)))
    }
}

impl Claims {
    /// What is said of the next path.
    pub fn next(&mut self, sorters: &Sorters) -> Result<Option<Claim>, Refusal> {
        let next = next(&mut self.sorted, sorters)?;
        Ok(next.map(|(index, Listed { line, entry })| Claim {
            place: Place {
                line,
                manifest: Arc::clone(&self.names[index]),
            },
            entry,
        }))
    }
}
