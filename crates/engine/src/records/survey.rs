//! One walk over trees, of which something sorted is written: what lists and manifests have in common.
//!
//! Comes in: the trees, a [`Look`], and whoever writes the records down; goes out: a report, and the file that was asked for,
//! which appears under its name when it is whole. Memory does not grow with the number of entries.

use std::sync::Arc;

use crate::bytes::output::Output;
use crate::error::Refusal;
use crate::job::desk::{Desk, Phase};
use crate::job::resources::Staff;
use crate::records::gather::{Gather, Look};
use crate::records::sort::{Sorted, Sorters};
use crate::report::{Durability, Report};
use crate::tree::descriptors::Budget;
use crate::tree::selection::{Rules, Selection};
use crate::walk::Walk;
use crate::walk::named::Named;
use crate::walk::names::FilesFrom;
use crate::walk::scout::{Ahead, Begin, Scout};
use crate::walk::start::{Boundary, Root, Start, media, require_one};

/// A survey, as asked for.
pub struct Survey<'s> {
    /// What it is of.
    pub roots: &'s [Root],
    /// What is taken.
    pub filter: &'s Selection,
    /// The rules that say so.
    pub rules: Option<&'s Rules>,
    /// Don't enter other file systems.
    pub one_file_system: bool,
    /// Nothing but what this list names below the one root.
    pub files_from: Option<&'s FilesFrom>,
    /// How many may be at work.
    pub staff: Staff,
    /// Directory for what does not fit in memory; `None`: memory is used.
    pub spill_directory: Option<&'s [u8]>,
    /// Memory for sorting, in bytes.
    pub sort_memory: usize,
    /// Where what is written goes.
    pub output: Option<&'s [u8]>,
    /// Bytes of a file that are read at most.
    pub read_at_most: u64,
}

impl Survey<'_> {
    /// Walks, with what `look` makes of the output, and has the records written.
    pub fn run<L: Look>(
        self,
        desk: &Arc<Desk>,
        look: impl FnOnce(Option<&Output>) -> Result<L, Refusal>,
        write: impl FnOnce(&Sorters, &mut Sorted, Option<&mut Output>) -> Result<(), Refusal>,
    ) -> Result<Report, Refusal> {
        require_one(self.roots)?;
        let (budget, most, _) = Budget::share(desk.counters.len());
        let crew = self.staff.crew(&media(self.roots), most);
        desk.staff(crew.active());
        let mut output = match self.output {
            Some(path) => Some(Output::create(path, desk)?),
            None => None,
        };
        let look = look(output.as_ref())?;
        desk.enter(Phase::Scanning);
        let sorters = Sorters::new(self.spill_directory, self.sort_memory, crew.active());
        let sorters = sorters.counted(desk.steps());
        let gather = Gather::new(desk, self.roots, look, &sorters);
        let walk = Walk {
            filter: self.filter,
            boundary: Boundary::of(self.one_file_system),
            across: &[],
            desk,
            crew: &crew,
            budget: &budget,
        };
        let most = self.read_at_most;
        if let Some(from) = self.files_from {
            let list = from.read_within(&self.roots[0].path, desk)?;
            walk.run(Start::Parts(&Named::of(&list, &self.roots[0], desk, true)?), &gather);
        } else {
            let _scout = Scout::send(
                desk,
                Ahead {
                    begin: Begin::Trees(self.roots.to_vec()),
                    filter: self.rules.cloned(),
                    boundary: walk.boundary,
                    passes: 1,
                    to_read: Some(Box::new(move |_, size| size.min(most))),
                },
            );
            walk.run(Start::Roots(self.roots), &gather);
        }
        let written = gather.sorted().and_then(|mut sorted| {
            desk.enter(Phase::Closing);
            write(&sorters, &mut sorted, output.as_mut())
        });
        close(output, written, desk)
    }
}

/// Ends what is written: it appears when it is whole, and not at all otherwise.
pub fn close(output: Option<Output>, written: Result<(), Refusal>, desk: &Desk) -> Result<Report, Refusal> {
    let mut interrupted = desk.cancel.is_draining();
    match (output, &written) {
        (Some(output), Ok(())) if !interrupted => {
            let _syncing = desk.syncing();
            interrupted = !output.finish()?;
        }
        (Some(output), _) => output.discard()?,
        (None, _) => {}
    }
    written?;
    Ok(desk.report(Durability::None, desk.most_staff(), interrupted))
}
