//! The order of archives whose fates depend on each other, so that what becomes of them depends on no schedule.
//!
//! Comes in: archives as the walk finds them, and what this run makes that is an archive too; goes out: those that waited, in
//! rounds. Of archives with one content name the first by its name is made, such as end in small letters before others, and
//! the others are compared with that; one whose content has the name of an archive comes when that has become its own
//! content. Memory grows with the archives that wait, and in a dry run with those of the directories that it is in: it goes by
//! what it has said of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::names::{bare, content_of, earlier_archives, turn};
use bulkhaul_sys::{self as sys, BorrowedFd, Follow, Identity};

use crate::walk::node::Node;

/// Archives of a directory that are of one name but for what archives end with, in their turns.
type Group<D> = BTreeMap<(usize, bool, CString), Arc<Node<D>>>;

/// What a dry run has said becomes of a name.
#[derive(Clone)]
pub enum Said {
    /// The content of this archive gets it.
    ContentOf(CString),
    /// What has it goes.
    Free,
}

/// Who waits for whom.
pub struct Order<D> {
    inner: Mutex<Inner<D>>,
    /// Nobody waits any more.
    over: AtomicBool,
}

struct Inner<D> {
    waiting: HashMap<(Identity, CString), Group<D>>,
    /// Archives that were made.
    made: HashSet<(Identity, CString)>,
    /// Of the directories that a dry run is in.
    said: HashMap<Identity, HashMap<CString, Said>>,
}

impl<D> Default for Order<D> {
    fn default() -> Self {
        let (waiting, made, said) = Default::default();
        Self {
            inner: Mutex::new(Inner { waiting, made, said }),
            over: AtomicBool::new(false),
        }
    }
}

impl<D> Order<D> {
    /// Whether an archive has to wait, whose content gets the name `target`; then its turn comes in [`Order::round`].
    pub fn puts_off(&self, node: &Arc<Node<D>>, at: BorrowedFd<'_>, name: &CStr, target: &CStr) -> bool {
        let is_there = |name: &CStr| sys::stat(at, name, Follow::No).is_ok();
        let waits = !self.over.load(Ordering::Relaxed)
            && (earlier_archives(name).iter().any(|name| is_there(name))
                || content_of(target).is_some() && is_there(target));
        if waits {
            node.expects_entries();
            let mut inner = self.inner();
            let group = inner.waiting.entry((node.id(), bare(name))).or_default();
            group.insert(turn(name), Arc::clone(node));
        }
        waits
    }

    /// The walk is over: one archive of each group, whose turn it is; none when all had theirs.
    pub fn round(&self) -> Vec<(Arc<Node<D>>, CString)> {
        self.over.store(true, Ordering::Relaxed);
        let mut inner = self.inner();
        let round = inner.waiting.values_mut().filter_map(Group::pop_first);
        let round = round.map(|((.., name), node)| (node, name)).collect();
        inner.waiting.retain(|_, group| !group.is_empty());
        round
    }

    /// A name is about to appear in a directory; the walk may come to it.
    pub fn makes(&self, directory: Identity, target: &CStr) {
        if content_of(target).is_some() {
            self.inner().made.insert((directory, target.to_owned()));
        }
    }

    /// Whether this run has made it.
    pub fn made(&self, directory: Identity, name: &CStr) -> bool {
        let inner = self.inner();
        !inner.made.is_empty() && inner.made.contains(&(directory, name.to_owned()))
    }

    /// A dry run has said it of a name in a directory.
    pub fn say(&self, directory: Identity, name: &CStr, said: Said) {
        let mut inner = self.inner();
        let of_directory = inner.said.entry(directory).or_default();
        of_directory.insert(name.to_owned(), said);
    }

    /// What a dry run has said of a name.
    pub fn said(&self, directory: Identity, name: &CStr) -> Option<Said> {
        self.inner().said.get(&directory)?.get(name).cloned()
    }

    /// Nobody asks for it any more.
    pub fn leaves(&self, directory: Identity) {
        self.inner().said.remove(&directory);
    }

    fn inner(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
