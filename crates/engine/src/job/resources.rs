//! What an operation may take of the machine, whatever it does.
//!
//! Comes in: as the options have it; goes out: the same, checked.

use bulkhaul_sys::IoPriority;

use crate::error::Refusal;
use crate::job::pace::Limits;
use crate::pool::schedule::Crew;
use crate::pool::tune::{Medium, Range};

/// Worker threads at most: beyond this only the memory of their buffers grows.
pub const MAX_JOBS: usize = 1024;

/// The level of a class of disk requests that is meant where none is given, as `ionice(1)` has it.
const IO_LEVEL: u8 = 4;

/// What an operation may take of the machine, whatever it does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// How fast it may go.
    pub limits: Limits,
    /// Niceness of its threads, -20 to 19.
    pub nice: Option<i32>,
    /// Order of its disk requests; see [`io_priority`].
    pub io: Option<IoPriority>,
}

impl Resources {
    /// Refuses what no system would take.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.nice {
            Some(nice) if !(-20..=19).contains(&nice) => {
                Err(Refusal::Usage(format!("nice: {nice} is not between -20 and 19")))
            }
            _ => Ok(()),
        }
    }
}

/// Reads `idle`, or `best-effort` or `realtime` with or without a level from `:0`, the first, to `:7`.
pub fn io_priority(text: &str) -> Result<IoPriority, Refusal> {
    let (class, level) = text
        .split_once(':')
        .map_or((text, None), |(class, level)| (class, Some(level)));
    let level = match level {
        None => Some(IO_LEVEL),
        Some(digit) => digit.parse().ok().filter(|level| *level < 8 && digit.len() == 1),
    };
    match (class, level) {
        ("idle", Some(_)) if !text.contains(':') => Ok(IoPriority::Idle),
        ("best-effort", Some(level)) => Ok(IoPriority::BestEffort(level)),
        ("realtime", Some(level)) => Ok(IoPriority::Realtime(level)),
        _ => Err(Refusal::Usage(format!(
            "ionice: '{text}' is not idle, best-effort[:0-7] or realtime[:0-7]"
        ))),
    }
}

/// Worker threads, where 0 is a choice of our own.
pub(crate) fn check_jobs(jobs: usize, processors: usize) -> Result<usize, Refusal> {
    match jobs {
        0 => Ok(processors.clamp(1, MAX_JOBS)),
        1..=MAX_JOBS => Ok(jobs),
        _ => Err(Refusal::Usage(format!("jobs: {jobs} is more than {MAX_JOBS}"))),
    }
}

/// How many workers an operation has that asks for so many; 0: as many as its media want.
#[derive(Clone, Copy, Debug)]
pub struct Staff {
    jobs: usize,
    processors: usize,
}

impl Staff {
    /// Refuses what nobody can want.
    pub(crate) fn of(jobs: usize, processors: usize) -> Result<Self, Refusal> {
        check_jobs(jobs, processors)?;
        let processors = processors.clamp(1, MAX_JOBS);
        Ok(Self { jobs, processors })
    }

    /// The most that there may be.
    pub(crate) fn most(self) -> usize {
        Range::of(&[Medium::Network], self.processors, self.jobs).ceiling
    }

    /// As many as there are without a look at the media, `most` at most.
    pub(crate) fn steady(self, most: usize) -> usize {
        let workers = if self.jobs == 0 { self.processors } else { self.jobs };
        workers.min(most).max(1)
    }

    /// Those for these media, `most` at most.
    pub(crate) fn crew(self, media: &[Medium], most: usize) -> Crew {
        match self.jobs {
            0 => Crew::of(Range::of(media, self.processors, 0), self.processors, most),
            jobs => Crew::Fixed(jobs.min(most).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crew_is_as_the_media_want_it_or_as_many_as_were_asked_for() {
        let tuned = |jobs, media: &[Medium], most| {
            let crew = Staff::of(jobs, 2).unwrap().crew(media, most);
            (matches!(crew, Crew::Tuned(..)), crew.active(), crew.most())
        };
        assert_eq!(tuned(0, &[Medium::Network], 256), (true, 8, 64));
        assert_eq!(tuned(0, &[Medium::Network], 5), (true, 5, 5));
        assert_eq!(tuned(0, &[Medium::Solid], 256), (true, 2, 16));
        assert_eq!(tuned(0, &[Medium::Memory], 256), (false, 2, 2));
        assert_eq!(tuned(0, &[], 256), (false, 2, 2));
        assert_eq!(tuned(3, &[Medium::Network], 256), (false, 3, 3));
        assert_eq!(tuned(3, &[Medium::Network], 2), (false, 2, 2));
        assert_eq!(Staff::of(0, 2).unwrap().most(), 64);
    }
}
