//! The rows of a patch, checked, in the order of their paths.
//!
//! Comes in: a change list; goes out: its rows, what is below a directory after it, and of one path what goes before what
//! comes. A list that contradicts itself is refused before anything is looked at: a row that comes twice, a row below what is
//! no directory afterwards, or was none before, and one that would write into the patch's own directory.

use bulkhaul_formats::lists::changes::{self, Op, Row, State};
use bulkhaul_sys::{Errno, Identity, Kind, Stat, Time};

use crate::error::Refusal;
use crate::job::desk::Desk;
use crate::records::listfile::ListFile;
use crate::records::record::{KINDS, path_key};
use crate::records::sort::{Sorted, Sorters};
use crate::tree::path::show;

/// Where a patch image keeps what is said of it.
const OWN: &[u8] = b".hpcp_diff";

/// What an entry was when it was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Was {
    pub(crate) id: Identity,
    pub(crate) kind: Kind,
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl Was {
    /// Of these facts.
    pub fn of(stat: &Stat) -> Self {
        // What is in a directory may go before it does, and so may another name of a file, by a row of its own.
        let directory = stat.kind == Kind::Directory;
        let shared = directory || stat.nlink > 1;
        let time = |time| if directory { Time::default() } else { time };
        Self {
            id: stat.id,
            kind: stat.kind,
            size: if directory { 0 } else { stat.size },
            mtime: time(stat.mtime),
            ctime: if shared { Time::default() } else { stat.ctime },
        }
    }

    /// Whether what is there now is what was there.
    pub fn is(&self, now: &Self) -> bool {
        // Of one that had other names nothing is known by its ctime, also when this is the last.
        let ctime = if self.ctime == Time::default() {
            self.ctime
        } else {
            now.ctime
        };
        *self == Self { ctime, ..*now }
    }
}

/// A row, with what the others say of its place.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) row: Row,
    /// So many components of its path may be symlinks: what the patch itself takes away or makes is none.
    pub(crate) links: usize,
    /// What of the same path goes before this comes, or comes when this has gone.
    pub(crate) instead: Option<State>,
    /// The number of the volume that has what it brings.
    pub(crate) volume: usize,
    /// What was there when it was planned.
    pub(crate) was: Option<Was>,
    /// It is done though something else was expected.
    pub(crate) forced: bool,
}

impl Step {
    pub(crate) fn path(&self) -> &[u8] {
        &self.row.change.path
    }

    pub(crate) fn op(&self) -> Op {
        self.row.change.op
    }

    /// The kind of what it brings, or takes.
    pub(crate) fn kind(&self) -> Kind {
        let state = if self.op() == Op::Remove {
            &self.row.old
        } else {
            &self.row.new
        };
        kind_of(state)
    }

    /// Bytes of the file that it brings.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.row.new {
            State::File { size, .. } => *size,
            _ => 0,
        }
    }
}

/// The kind that a state is of.
pub fn kind_of(state: &State) -> Kind {
    match state {
        State::File { .. } => Kind::File,
        State::Directory(_) => Kind::Directory,
        State::Symlink(_) => Kind::Symlink,
        State::Absent | State::Unknown => Kind::Unknown,
    }
}

/// The key that rows are sorted by.
fn key(row: &Row, key: &mut Vec<u8>) {
    path_key(&row.change.path, key);
    // No name is empty, so this comes before all that is below it.
    key.extend_from_slice(&[0, 0, row.change.op as u8]);
}

/// The key by which what is in a directory comes before it.
pub fn inner_first(row: &Row, bytes: &mut Vec<u8>) {
    key(row, bytes);
    for byte in bytes {
        *byte = !*byte;
    }
}

/// Reads a list into the order of its paths. None: the run was told to stop.
pub fn read(path: &[u8], desk: &Desk, sorters: &Sorters) -> Result<Option<Rows>, Refusal> {
    let Some(list) = ListFile::open(path, sorters, &desk.cancel)? else {
        return Ok(None);
    };
    if !list.is_changes()? {
        return Err(list.refusal("it is no list of changes"));
    }
    let mut taken = sorters.sorter();
    let (mut sort_key, mut number_of) = (Vec::new(), 0);
    list.each(|number, line| {
        let row = changes::parse_row(line).map_err(|error| list.refusal(&format!("line {number}: {error}")))?;
        let Some(row) = row else { return Ok(()) };
        if row.change.path.split(|b| *b == b'/').next() == Some(OWN) {
            return Err(list.refusal(&format!("line {number}: {} is the patch's own", show(OWN))));
        }
        key(&row, &mut sort_key);
        number_of += 1;
        desk.step();
        taken.push(&sort_key, line).map_err(|errno| sorters.refusal(errno))
    })?;
    let sorted = Sorted::merge(vec![taken]).map_err(|errno| sorters.refusal(errno))?;
    Ok(Some(Rows {
        list,
        sorters: sorters.clone(),
        sorted,
        above: Vec::new(),
        held: None,
        number: number_of,
    }))
}

/// Rows in their order, with what is known of what is above each.
pub struct Rows {
    list: ListFile,
    sorters: Sorters,
    sorted: Sorted,
    above: Vec<Above>,
    /// The one that comes next, which was looked at already.
    held: Option<Step>,
    /// How many there are in all.
    pub(crate) number: u64,
}

/// What the list says of a path.
struct Above {
    path: Vec<u8>,
    removed: Option<State>,
    /// What it becomes, and whether that is there before.
    made: Option<(Kind, Op)>,
}

impl Above {
    fn holds(&self, path: &[u8]) -> bool {
        self.path.is_empty()
            || path
                .strip_prefix(&self.path[..])
                .is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether there may be a row of this kind below it.
    fn admits(&self, op: Op) -> bool {
        let was = match (&self.removed, self.made) {
            (Some(state), _) => kind_of(state) == Kind::Directory,
            (None, Some((kind, Op::Modify))) => kind == Kind::Directory,
            (None, made) => made.is_none(),
        };
        let becomes = match self.made {
            Some((kind, _)) => kind == Kind::Directory,
            None => self.removed.is_none(),
        };
        match op {
            Op::Remove => was,
            Op::Add => becomes,
            Op::Modify => was && becomes && self.removed.is_none(),
        }
    }

    /// The patch takes it away, or makes it.
    fn is_fixed(&self) -> bool {
        self.removed.is_some() || matches!(self.made, Some((_, Op::Add)))
    }
}

impl Rows {
    /// The next one.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, Refusal> {
        let next = match self.held.take() {
            Some(held) => Some(held),
            None => self.read()?,
        };
        let Some(mut step) = next else { return Ok(None) };
        if step.op() == Op::Remove {
            self.held = self.read()?;
            let after = self.held.as_ref().filter(|after| after.path() == step.path());
            step.instead = after.map(|after| after.row.new.clone());
        }
        Ok(Some(step))
    }

    fn read(&mut self) -> Result<Option<Step>, Refusal> {
        let next = self.sorted.next().map_err(|errno| self.sorters.refusal(errno))?;
        let Some((_, line)) = next else { return Ok(None) };
        let row = changes::parse_row(line).ok().flatten();
        let row = row.ok_or_else(|| self.sorters.refusal(Errno::IO))?;
        let (path, op) = (row.change.path.clone(), row.change.op);
        while self
            .above
            .last()
            .is_some_and(|last| last.path != path && !last.holds(&path))
        {
            self.above.pop();
        }
        let mut instead = None;
        let same = self.above.last().is_some_and(|last| last.path == path);
        let higher = &self.above[..self.above.len() - usize::from(same)];
        if let Some(wrong) = higher.iter().find(|above| !above.admits(op)) {
            let (path, above) = (show(&path), show(&wrong.path));
            return Err(self
                .list
                .refusal(&format!("the rows of {above} and {path} contradict each other")));
        }
        let fixed = higher.iter().find(|above| above.is_fixed());
        let components = |path: &[u8]| path.split(|b| *b == b'/').filter(|part| !part.is_empty()).count();
        let links = fixed.map_or_else(|| components(&path), |above| components(&above.path).saturating_sub(1));
        let kind = kind_of(&row.new);
        match self.above.last_mut().filter(|_| same) {
            // Only what goes and then comes as something else has two rows.
            Some(above) if op == Op::Add && above.made.is_none() => {
                instead.clone_from(&above.removed);
                above.made = Some((kind, op));
            }
            Some(_) => return Err(self.list.refusal(&format!("{} has more than one row", show(&path)))),
            None => self.above.push(Above {
                path,
                removed: (op == Op::Remove).then(|| row.old.clone()),
                made: (op != Op::Remove).then_some((kind, op)),
            }),
        }
        Ok(Some(Step {
            row,
            links,
            instead,
            volume: 0,
            was: None,
            forced: false,
        }))
    }
}

const THERE: u8 = 1;
const FORCED: u8 = 1 << 1;

/// Writes a planned step into `bytes`, which is emptied first. What goes instead is not needed any more.
pub fn encode(step: &Step, bytes: &mut Vec<u8>) {
    bytes.clear();
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    bytes.push(flag(step.was.is_some(), THERE) | flag(step.forced, FORCED));
    for number in [step.links, step.volume] {
        bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }
    if let Some(was) = &step.was {
        bytes.push(was.kind as u8);
        for number in [was.id.dev, was.id.ino, was.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [was.mtime, was.ctime] {
            bytes.extend_from_slice(&time.sec.to_le_bytes());
            bytes.extend_from_slice(&time.nsec.to_le_bytes());
        }
    }
    let name = changes::name(step.path(), step.row.change.directory);
    changes::row(step.op(), &name, &step.row.old, &step.row.new, bytes);
    bytes.pop();
}

/// Reads what [`encode`] wrote; `None` where it did not.
pub fn decode(bytes: &[u8]) -> Option<Step> {
    let (&flags, mut rest) = bytes.split_first()?;
    let long = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(u64::from_le_bytes(*number))
    };
    let (links, volume) = (
        usize::try_from(long(&mut rest)?).ok()?,
        usize::try_from(long(&mut rest)?).ok()?,
    );
    let was = if flags & THERE == 0 {
        None
    } else {
        let (&kind, after) = rest.split_first()?;
        rest = after;
        let (dev, ino, size) = (long(&mut rest)?, long(&mut rest)?, long(&mut rest)?);
        let mut time = || {
            let sec = long(&mut rest)?.cast_signed();
            let (nsec, after) = rest.split_first_chunk()?;
            rest = after;
            Some(Time {
                sec,
                nsec: u32::from_le_bytes(*nsec),
            })
        };
        Some(Was {
            id: Identity { dev, ino },
            kind: *KINDS.get(usize::from(kind))?,
            size,
            mtime: time()?,
            ctime: time()?,
        })
    };
    Some(Step {
        row: changes::parse_row(rest).ok().flatten()?,
        links,
        instead: None,
        volume,
        was,
        forced: flags & FORCED != 0,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::records::sort::SORT_BYTES;

    /// The rows of a list, each with how many links may be followed to it.
    fn told(lines: &str) -> Result<Vec<(String, usize, bool)>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "#hpcp-changes\t1\n{lines}").unwrap();
        let sorters = Sorters::new(None, SORT_BYTES, 1);
        let desk = Desk::new(1);
        let path = file.path().as_os_str().as_encoded_bytes();
        let mut rows = read(path, &desk, &sorters).map_err(|error| error.to_string())?.unwrap();
        let mut all = Vec::new();
        while let Some(step) = rows.next().map_err(|error| error.to_string())? {
            let mut bytes = Vec::new();
            encode(&step, &mut bytes);
            assert_eq!(decode(&bytes).unwrap().row, step.row);
            let letter = match step.op() {
                Op::Remove => "D",
                Op::Add => "A",
                Op::Modify => "M",
            };
            all.push((
                format!("{letter} {}", show(step.path())),
                step.links,
                step.instead.is_some(),
            ));
        }
        Ok(all)
    }

    const FILE: &str = "f:1:2:100644:0:0:-:-";
    const DIRECTORY: &str = "d:40755:0:0:-";

    #[test]
    fn rows_come_by_their_paths_and_know_what_is_above_them() {
        let lines = format!(
            "D\tx\t{FILE}\t-\nA\tx/\t-\t{DIRECTORY}\nA\tx/y\t-\tl:z\nD\ta/b/\t{DIRECTORY}\t-\nD\ta/b/c\t{FILE}\t-\n\
             M\ta-\tl:b\tl:c\nA\ta/d\t-\t{FILE}\nM\t./\t{DIRECTORY}\td:40700:0:0:-\n"
        );
        let row = |text: &str, links, instead| (text.to_owned(), links, instead);
        assert_eq!(
            told(&lines).unwrap(),
            [
                row("M ", 0, false),
                row("D a/b", 2, false),
                row("D a/b/c", 1, false),
                row("A a/d", 2, false),
                row("M a-", 1, false),
                row("D x", 1, true),
                row("A x", 1, true),
                row("A x/y", 0, false),
            ]
        );
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        for (lines, expected) in [
            (format!("A\ta\t-\t{FILE}\nA\ta\t-\tl:b"), "a has more than one row"),
            (format!("M\ta\tl:c\tl:b\nD\ta\t{FILE}\t-"), "a has more than one row"),
            (
                format!("A\ta\t-\tl:b\nA\ta/c\t-\t{FILE}"),
                "the rows of a and a/c contradict",
            ),
            (
                format!("M\ta\tl:x\tl:b\nM\ta/c\t{FILE}\t{FILE}"),
                "the rows of a and a/c contradict",
            ),
            (format!("A\ta/\t-\t{DIRECTORY}\nM\ta/c\t{FILE}\t{FILE}"), "contradict"),
            (format!("A\ta/\t-\t{DIRECTORY}\nD\ta/c\t{FILE}\t-"), "contradict"),
            (format!("D\ta/\t{DIRECTORY}\t-\nA\ta/c/d\t-\t{FILE}"), "contradict"),
            (format!("D\ta\t{FILE}\t-\nD\ta/c\t{FILE}\t-"), "contradict"),
            (
                format!("A\t.hpcp_diff/x\t-\t{FILE}"),
                "line 2: .hpcp_diff is the patch's own",
            ),
            ("A\t../x\t-\tl:b".to_owned(), "line 2: no row of a change list"),
            ("x".to_owned(), "line 2: no row of a change list"),
        ] {
            let refused = told(&lines).unwrap_err();
            assert!(refused.contains(expected), "{lines}: {refused}");
        }
        let other = tempfile::NamedTempFile::new().unwrap();
        let sorters = Sorters::new(None, SORT_BYTES, 1);
        let path = other.path().as_os_str().as_encoded_bytes();
        assert!(matches!(read(path, &Desk::new(1), &sorters), Err(Refusal::List(_))));
    }
}
