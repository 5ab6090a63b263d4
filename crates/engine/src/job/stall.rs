//! The limit of silence: a job in which nothing at all moves for so long is given up, and so is one that was told to stop
//! at once and does not.
//!
//! Comes in: the desk of a job at work, looked at again and again; goes out: its report, or, where a call of the system
//! does not come back, one that says where it is held. Such a call can't be interrupted from within its process: its
//! thread is left behind, and the caller is better to end. What was staged is gone on with by the next run.
//!
//! Silence is counted in looks, not by a clock: while the process or the machine is suspended, nobody looks. It is not
//! counted while the job waits for something that is no device: an answer, leave from a limit of speed, the reader of its
//! events, a list that somebody still writes. A sync says nothing for as long as it takes, and has [`SYNC_PATIENCE`].

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use bulkhaul_sys::{self as sys, Kind};

use crate::error::{Cause, Failure, Fault, Operation, Refusal, Side};
use crate::job::desk::{Desk, Phase};
use crate::report::counters::{Counters, Totals};
use crate::report::{Durability, Report};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// While something is being synced, silence may last this many times the limit: how much has to be written is unknown.
pub const SYNC_PATIENCE: u64 = 10;
/// Looks after which a job that was aborted is left: a second, of the two in which a second signal ends a command.
const ABORT_LOOKS: u64 = 10;
/// Paths that are named at most.
const PATHS_NAMED: usize = 32;

/// What a look saw.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// A number that changes whenever anything moves.
    moves: u64,
    /// The job waits, and not for a device.
    rests: bool,
    /// Something is being synced.
    syncs: bool,
}

/// Silence so far.
#[derive(Debug)]
struct Silence {
    /// Looks that make the limit.
    limit: u64,
    looks: u64,
    moves: u64,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        let looks = limit.as_nanos().div_ceil(INTERVAL.as_nanos()).max(1);
        Self {
            limit: u64::try_from(looks).unwrap_or(u64::MAX),
            looks: 0,
            moves: 0,
        }
    }

    /// Takes a look in; answers whether the silence has lasted too long.
    fn observe(&mut self, look: Look) -> bool {
        if look.moves != self.moves {
            (self.looks, self.moves) = (0, look.moves);
        } else if !look.rests {
            self.looks += 1;
        }
        let patience = if look.syncs { SYNC_PATIENCE } else { 1 };
        self.looks >= self.limit.saturating_mul(patience)
    }
}

/// Does `work` on a thread of its own, and gives it up when nothing moved at the desk for `limit` (zero: never), or when it
/// goes on after it was aborted.
pub fn watched(
    desk: &Arc<Desk>,
    limit: Duration,
    work: impl FnOnce() -> Result<Report, Refusal> + Send + 'static,
) -> Result<Report, Refusal> {
    let (done, over) = mpsc::channel();
    let thread = Builder::new().name("bulkhaul-main".into());
    let thread = thread.spawn(move || match done.send(work()) {
        // Given up: nobody waits any more.
        Ok(()) | Err(_) => {}
    });
    let thread = thread.map_err(|error| Refusal::Usage(format!("no thread could be started: {error}")))?;
    let mut silence = (!limit.is_zero()).then(|| Silence::new(limit));
    let mut aborted = 0;
    loop {
        match over.recv_timeout(INTERVAL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => return Err(Refusal::Safety("the job ended without a report".into())),
            },
        }
        if desk.cancel.is_aborted() {
            aborted += 1;
            if aborted > ABORT_LOOKS {
                return Ok(leave(desk));
            }
        } else if let Some(silence) = &mut silence {
            let look = Look {
                moves: desk.moves(),
                rests: desk.rests(),
                syncs: desk.is_syncing(),
            };
            if silence.observe(look) {
                return Ok(give_up(desk, limit));
            }
        }
    }
}

/// Says where the threads are that heard nothing of the end, and closes the books as they are.
fn leave(desk: &Desk) -> Report {
    for path in held() {
        let text = "the run was stopped at once; what did not come back was left behind";
        desk.note("left-behind", || (path, text.to_owned()));
    }
    close(desk)
}

/// Says where the threads are held, and closes the books as they are.
fn give_up(desk: &Desk, limit: Duration) -> Report {
    let fault = Fault {
        operation: Operation::Wait,
        side: Side::Source,
        cause: Cause::Stalled(limit),
    };
    let totals = Totals::of(&desk.counters);
    let hint = format!(
        "{}, {} of {} entries done",
        desk.phase().text(),
        totals.all_outcomes(),
        totals.all_found()
    );
    for path in held() {
        desk.fail(Failure::new(&fault, path, Kind::Unknown, Some(&hint)));
    }
    // Whatever comes back after all stops there.
    desk.cancel.abort();
    close(desk)
}

/// What the threads are held at; an empty path where nobody can tell.
fn held() -> Vec<Vec<u8>> {
    let mut paths = sys::held_at(THREADS);
    paths.sort();
    paths.dedup();
    paths.truncate(PATHS_NAMED);
    if paths.is_empty() {
        paths.push(Vec::new());
    }
    paths
}

fn close(desk: &Desk) -> Report {
    desk.counters.iter().for_each(Counters::leave_behind);
    desk.enter(Phase::Done);
    desk.report(Durability::None, desk.most_staff(), true)
}

/// How the names of the threads of all jobs begin.
const THREADS: &str = "bulkhaul-";

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(limit: u64) -> Silence {
        Silence::new(INTERVAL * u32::try_from(limit).unwrap())
    }

    /// Looks until it is too long; `None`: never.
    fn lasts(mut silence: Silence, mut look: impl FnMut(u64) -> Look) -> Option<u64> {
        (1..10_000).find(|turn| silence.observe(look(*turn)))
    }

    #[test]
    fn too_long_is_the_limit_and_not_less() {
        for limit in [1, 2, 50] {
            assert_eq!(lasts(silence(limit), |_| Look::default()), Some(limit));
        }
        let just_less = INTERVAL * 2 + Duration::from_nanos(1);
        assert_eq!(lasts(Silence::new(just_less), |_| Look::default()), Some(3));
        assert_eq!(
            lasts(Silence::new(Duration::from_nanos(1)), |_| Look::default()),
            Some(1)
        );
    }

    #[test]
    fn whatever_moves_ends_a_silence() {
        let moving = |every: u64| {
            move |turn: u64| Look {
                moves: turn / every,
                ..Look::default()
            }
        };
        assert_eq!(lasts(silence(5), moving(5)), None);
        assert_eq!(lasts(silence(5), moving(6)), Some(5));
        // Also backwards: a number that wraps.
        let wraps = |turn: u64| Look {
            moves: u64::MAX.wrapping_sub(turn / 4),
            ..Look::default()
        };
        assert_eq!(lasts(silence(5), wraps), None);
    }

    #[test]
    fn waiting_for_others_is_no_silence_and_does_not_end_one() {
        let rests = |turn: u64| Look {
            rests: !turn.is_multiple_of(10),
            ..Look::default()
        };
        assert_eq!(
            lasts(silence(5), |_| Look {
                rests: true,
                ..Look::default()
            }),
            None
        );
        assert_eq!(lasts(silence(5), rests), Some(50));
    }

    #[test]
    fn a_sync_has_more_patience() {
        let syncs = |until: u64| {
            move |turn: u64| Look {
                syncs: turn < until,
                ..Look::default()
            }
        };
        assert_eq!(lasts(silence(5), syncs(u64::MAX)), Some(5 * SYNC_PATIENCE));
        // What comes after it has none.
        assert_eq!(lasts(silence(5), syncs(20)), Some(20));
    }
}
