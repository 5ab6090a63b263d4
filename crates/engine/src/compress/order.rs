//! The order of archives whose fates depend on each other, so that what becomes of them depends on no schedule.
//!
//! Comes in: archives as the walk finds them, and what this run makes that is an archive too; goes out: those that waited, in
//! rounds. Of archives with one content name the first by its name is made, and the others are compared with that; one whose
//! content has the name of an archive comes when that has become its own content. Memory grows with the archives that wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhaul_formats::codec::names::{bare, content_of, earlier_archives};
use bulkhaul_sys::{self as sys, AsFd as _, Follow, Identity};

use crate::compress::worker::{Directory, Place};
use crate::walk::node::Node;

/// Archives of a directory that are of one name but for what archives end with, by their own names.
type Group = BTreeMap<CString, Arc<Node<Directory>>>;

/// Who waits for whom.
#[derive(Default)]
pub struct Order {
    inner: Mutex<Inner>,
    /// Nobody waits any more.
    over: AtomicBool,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<(Identity, CString), Group>,
    /// Archives that were made.
    made: HashSet<(Identity, CString)>,
}

impl Order {
    /// Whether an archive has to wait; then its turn comes in [`Order::round`].
    pub fn puts_off(&self, place: &Place) -> bool {
        let is_there = |name: &CStr| sys::stat(place.at.as_fd(), name, Follow::No).is_ok();
        let waits = !self.over.load(Ordering::Relaxed)
            && (earlier_archives(&place.name).iter().any(|name| is_there(name))
                || content_of(&place.target).is_some() && is_there(&place.target));
        if waits {
            place.node.expects_entries();
            let mut inner = self.inner();
            let group = inner
                .waiting
                .entry((place.node.id(), bare(&place.name)))
                .or_default();
            group.insert(place.name.clone(), Arc::clone(&place.node));
        }
        waits
    }

    /// The walk is over: one archive of each group, whose turn it is; none when all had theirs.
    pub fn round(&self) -> Vec<(Arc<Node<Directory>>, CString)> {
        self.over.store(true, Ordering::Relaxed);
        let mut inner = self.inner();
        let round = inner.waiting.values_mut().filter_map(Group::pop_first);
        let round = round.map(|(name, node)| (node, name)).collect();
        inner.waiting.retain(|_, group| !group.is_empty());
        round
    }

    /// A name is about to appear; the walk may come to it.
    pub fn makes(&self, place: &Place) {
        if content_of(&place.target).is_some() {
            self.inner().made.insert((place.node.id(), place.target.clone()));
        }
    }

    /// Whether this run has made it.
    pub fn made(&self, place: &Place) -> bool {
        let inner = self.inner();
        !inner.made.is_empty() && inner.made.contains(&(place.node.id(), place.name.clone()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
