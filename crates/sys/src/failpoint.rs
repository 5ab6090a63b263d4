//! The hooks that every system call of this crate passes, and what the fault tests hang on them.
//!
//! Comes in: the kind of a call and the call itself; goes out: its answer. Without the feature `failpoints`, which only the
//! engine's own tests ask for, a hook is nothing but the repetition of what was interrupted. With it, a process can be
//! armed with a [`Plan`]: the Nth call, of one kind or of all, fails, moves less than it was asked for, lies, or is where
//! the process stops or ends. The plan is below the repetition of `EINTR`, as the kernel is. It is one for the whole
//! process: tests that use it run in a process of their own, with one worker where the order of calls matters.

use rustix::io::retry_on_intr;

use crate::Result;

#[cfg(feature = "failpoints")]
pub use armed::{BULKHAUL_FAILPOINTS, Effect, Plan, arm, calls, disarm, hits};

/// The kinds of calls, named as the functions of this crate.
#[allow(missing_docs, reason = "each is the call that it names")]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "not every system has every call")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Allocate,
    CachedBytes,
    Capacity,
    Clone,
    Close,
    CopyRange,
    Create,
    DropCache,
    Duplicate,
    Flags,
    GetXattr,
    Link,
    IoPriority,
    ListXattrs,
    Lock,
    MakeDirectory,
    MakeNode,
    Magic,
    MountId,
    Namespace,
    Nice,
    OpenDirect,
    OpenDirectory,
    OpenFile,
    OpenNode,
    OpenStream,
    Path,
    Poll,
    Prefetch,
    Quota,
    Read,
    ReadDirectory,
    ReadLink,
    RemoveDirectory,
    RemoveXattr,
    Rename,
    Rewind,
    SeekData,
    SeekEnd,
    SeekHole,
    Session,
    SetMode,
    SetOwner,
    SetSize,
    SetTimes,
    SetXattr,
    Stat,
    StatFd,
    Symlink,
    SyncAll,
    SyncData,
    SyncFileSystem,
    Unlink,
    Unlock,
    Unnamed,
    Write,
    WriteBack,
}

/// Makes a call, again for as long as it is interrupted.
pub(crate) fn again<T>(call: Call, mut body: impl FnMut() -> Result<T>) -> Result<T> {
    retry_on_intr(|| once(call, &mut body))
}

/// Makes a call that is not repeated.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn once<T>(_: Call, body: impl FnOnce() -> Result<T>) -> Result<T> {
    body()
}

/// Makes a call that answers a position in a file.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn position(_: Call, body: impl FnOnce() -> Result<u64>) -> Result<u64> {
    body()
}

/// Makes a call that moves up to `length` bytes out of this process, or past it.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn bytes(_: Call, length: usize, mut body: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    retry_on_intr(|| body(length))
}

/// Makes a call that fills a buffer.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn filled(_: Call, buffer: &mut [u8], mut body: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
    retry_on_intr(|| body(buffer))
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{bytes, filled, once, position};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    use super::{Call, Result, retry_on_intr};
    use crate::Errno;

    /// What happens to the calls that a plan hits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Effect {
        /// It is not made, and answers this.
        Errno(Errno),
        /// It is asked for half of the bytes, 1 at least. Calls that move no bytes are as always.
        Short,
        /// It is not made, and answers this number of bytes, or this position. Calls without a number are as always.
        Answer(u64),
        /// It writes half and answers that it wrote all.
        Lie,
        /// One bit of what it reads is another.
        Flip,
        /// It comes that much later.
        Wait(Duration),
        /// The process stops before it, as by `SIGSTOP`, until it is killed or told to go on.
        Stop,
        /// The process ends before it, with code 99 and without a last word.
        Exit,
    }

    /// Which calls are hit, and what happens to them.
    #[derive(Clone, Copy, Debug)]
    pub struct Plan {
        /// Kind of the calls that are counted; `None`: all.
        pub call: Option<Call>,
        /// Number of the first one that is hit; 0 is the first call made.
        pub nth: usize,
        /// How many are hit from there on.
        pub count: usize,
        /// What happens to them.
        pub effect: Effect,
    }

    struct State {
        plan: Option<Plan>,
        calls: Vec<Call>,
        /// Calls so far that the plan counts.
        counted: usize,
    }

    /// Looked at before the lock is taken, so that unarmed processes share nothing.
    static ARMED: AtomicBool = AtomicBool::new(false);
    static STATE: Mutex<State> = Mutex::new(State {
        plan: None,
        calls: Vec::new(),
        counted: 0,
    });

    fn state() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a program or library holds when failpoints were compiled into it, and the released one must not. Exported, so
    /// that no linker leaves it out.
    // SAFETY: nothing else has this name.
    #[unsafe(no_mangle)]
    pub static BULKHAUL_FAILPOINTS: [u8; 32] = *b"bulkhaul was built w/ failpoints";

    /// From now on calls are recorded, and those that the plan means are hit. A plan takes the place of the one before.
    pub fn arm(plan: Option<Plan>) {
        *state() = State {
            plan,
            calls: Vec::new(),
            counted: 0,
        };
        ARMED.store(true, Ordering::SeqCst);
    }

    /// Ends the plan; answers the calls that were made meanwhile, in their order.
    pub fn disarm() -> Vec<Call> {
        ARMED.store(false, Ordering::SeqCst);
        let mut state = state();
        state.plan = None;
        std::mem::take(&mut state.calls)
    }

    /// Number of calls since the process was armed.
    pub fn calls() -> usize {
        state().calls.len()
    }

    /// Number of calls that the plan has hit so far.
    pub fn hits() -> usize {
        let state = state();
        state
            .plan
            .map_or(0, |plan| state.counted.saturating_sub(plan.nth).min(plan.count))
    }

    /// Counts a call; answers what is to happen to it, if its errno, its stop or its end was not that already.
    fn pass(call: Call) -> Result<Option<Effect>> {
        if !ARMED.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut state = state();
        state.calls.push(call);
        let Some(plan) = state.plan.filter(|p| p.call.is_none_or(|c| c == call)) else {
            return Ok(None);
        };
        let number = state.counted;
        state.counted += 1;
        if number < plan.nth || number - plan.nth >= plan.count {
            return Ok(None);
        }
        drop(state);
        match plan.effect {
            Effect::Errno(errno) => Err(errno),
            Effect::Stop => {
                // To this thread: another one would stop it some calls later.
                // SAFETY: the call takes a number.
                let answer = unsafe { libc::raise(libc::SIGSTOP) };
                if answer == 0 { Ok(None) } else { Err(Errno::IO) }
            }
            Effect::Wait(time) => {
                std::thread::sleep(time);
                Ok(None)
            }
            // SAFETY: the call takes a number, and does not come back.
            Effect::Exit => unsafe { libc::_exit(99) },
            effect => Ok(Some(effect)),
        }
    }

    pub(crate) fn once<T>(call: Call, body: impl FnOnce() -> Result<T>) -> Result<T> {
        pass(call)?;
        body()
    }

    pub(crate) fn position(call: Call, body: impl FnOnce() -> Result<u64>) -> Result<u64> {
        match pass(call)? {
            Some(Effect::Answer(position)) => Ok(position),
            _ => body(),
        }
    }

    fn half(length: usize) -> usize {
        length.min((length / 2).max(1))
    }

    pub(crate) fn bytes(call: Call, length: usize, mut body: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
        retry_on_intr(|| match pass(call)? {
            Some(Effect::Short) => body(half(length)),
            Some(Effect::Answer(count)) => Ok(usize::try_from(count).unwrap_or(usize::MAX).min(length)),
            Some(Effect::Lie) => body(half(length)).map(|_| length),
            _ => body(length),
        })
    }

    pub(crate) fn filled(
        call: Call,
        buffer: &mut [u8],
        mut body: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        retry_on_intr(|| match pass(call)? {
            Some(Effect::Short) => {
                let length = half(buffer.len());
                body(&mut buffer[..length])
            }
            Some(Effect::Answer(count)) => Ok(usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len())),
            Some(Effect::Flip) => {
                let length = body(buffer)?;
                if let Some(byte) = buffer[..length].get_mut(length / 2) {
                    *byte ^= 1;
                }
                Ok(length)
            }
            _ => body(buffer),
        })
    }
}
