//! A listing of a bucket, page by page, each asked for while the one before is taken.
//!
//! Comes in: a prefix; goes out: the objects below it in the order of the bytes of their keys. A page that breaks off is
//! asked for again. A listing that says that it goes on and not where, that repeats itself, is out of order or has keys that
//! were not asked for is an error: nobody may take its end for the end of the bucket.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use tokio::task::JoinHandle;

use crate::objects::client::{Client, Fate, Wrong, fault};
use crate::objects::xml::{Item, Page};
use crate::session::Session;
use crate::store::{Entry, Listing};

/// Pages without a key that may follow each other.
const MOST_EMPTY_PAGES: u32 = 1000;

/// Checks pages against each other.
#[derive(Debug, Default)]
pub struct Order {
    last: Option<Vec<u8>>,
    token: Option<String>,
    empty: u32,
}

impl Order {
    /// Takes a page in; answers where the next one begins, if there is one, or what is wrong.
    pub fn accept(&mut self, page: &Page, prefix: &str) -> Result<Option<String>, String> {
        for item in &page.items {
            let shown = || String::from_utf8_lossy(&item.key).into_owned();
            if !item.key.starts_with(prefix.as_bytes()) {
                return Err(format!("the server lists what it was not asked for: {}", shown()));
            }
            if self.last.as_ref().is_some_and(|last| *last >= item.key) {
                return Err(format!("the server lists keys out of order, or twice: {}", shown()));
            }
            self.last = Some(item.key.clone());
        }
        self.empty = if page.items.is_empty() { self.empty + 1 } else { 0 };
        if !page.truncated {
            return Ok(None);
        }
        match &page.token {
            None => Err("the server says that there is more, and not where".into()),
            Some(token) if self.token.as_ref() == Some(token) => {
                Err("the server lists one page again and again".into())
            }
            Some(_) if self.empty > MOST_EMPTY_PAGES => Err("the server lists nothing but empty pages".into()),
            Some(token) => {
                self.token = Some(token.clone());
                Ok(Some(token.clone()))
            }
        }
    }
}

/// Asks for a page.
async fn page(
    client: Arc<Client>,
    prefix: String,
    shallow: bool,
    token: Option<String>,
    retries: u32,
) -> Result<Page, Wrong> {
    let request = client.dialect.ask_page(&prefix, shallow, token);
    for _ in 0..=retries {
        let answer = client.send(&request).await?;
        if let Some(page) = client.dialect.page(&answer.body) {
            return Ok(page);
        }
    }
    Err(Wrong {
        fate: Fate::Transient,
        status: 0,
        code: "listing".into(),
        message: "a page of the listing breaks off, or is none".into(),
    })
}

/// The objects below a prefix.
pub struct Pages<'s> {
    session: &'s Session,
    client: Arc<Client>,
    prefix: String,
    side: Side,
    /// What is below a directory stands for it.
    shallow: bool,
    items: VecDeque<Item>,
    order: Order,
    coming: Option<JoinHandle<Result<Page, Wrong>>>,
}

impl<'s> Pages<'s> {
    /// Asks for the first page.
    pub fn new(session: &'s Session, client: &Arc<Client>, prefix: &str, side: Side, shallow: bool) -> Self {
        let mut pages = Self {
            session,
            client: Arc::clone(client),
            prefix: prefix.to_owned(),
            side,
            shallow,
            items: VecDeque::new(),
            order: Order::default(),
            coming: None,
        };
        pages.ask(None);
        pages
    }

    /// Has the first page: what is wrong with all of it is known before anything is begun. `path` is for words. A prefix below
    /// which nothing is can't be told from one that is not there.
    pub fn begun(mut self, path: &[u8]) -> Result<Self, Refusal> {
        let said = |why: &str| format!("{}: {why}", String::from_utf8_lossy(path));
        Err(match self.turn() {
            // Nobody has said that it is missing.
            Err(Turned::Wrong(wrong)) if self.side == Side::Source && wrong.unanswered() => {
                Refusal::NoStart(said(&wrong.to_string()))
            }
            Err(Turned::Wrong(wrong)) => {
                let passes = wrong.fate == Fate::Transient;
                Refusal::of_place(self.side, said(&wrong.to_string()), passes)
            }
            Ok(_) if self.is_nowhere() => Refusal::NoSource(said("nothing is there")),
            Ok(_) | Err(Turned::Stopped) => return Ok(self),
        })
    }

    fn is_nowhere(&self) -> bool {
        self.side == Side::Source && !self.prefix.is_empty() && self.items.is_empty() && self.coming.is_none()
    }

    fn ask(&mut self, token: Option<String>) {
        let retries = self.session.options.retry.retries;
        let asked = page(
            Arc::clone(&self.client),
            self.prefix.clone(),
            self.shallow,
            token,
            retries,
        );
        self.coming = Some(self.session.runtime().spawn(asked));
    }

    /// Takes the next page in. Answers whether there was one.
    fn turn(&mut self) -> Result<bool, Turned> {
        let Some(coming) = self.coming.take() else {
            return Ok(false);
        };
        let page = self.session.wait(coming).map_err(|_| Turned::Stopped)?;
        let page = page
            .map_err(|error| Turned::Wrong(lost(error.to_string())))?
            .map_err(Turned::Wrong)?;
        let token = self
            .order
            .accept(&page, &self.prefix)
            .map_err(|message| Turned::Wrong(lost(message)))?;
        self.items.extend(page.items);
        if token.is_some() {
            self.ask(token);
        }
        Ok(true)
    }

    /// All of it, below a key that its own are told from.
    pub fn below(mut self, key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let mut entries = Vec::new();
        while let Some(entry) = self.next()? {
            entries.push(Entry {
                key: [key, &entry.key].concat(),
                ..entry
            });
        }
        Ok(entries)
    }
}

/// Why there is no next page.
enum Turned {
    /// It can't be had.
    Wrong(Wrong),
    /// Nobody wants it any more.
    Stopped,
}

fn lost(message: String) -> Wrong {
    Wrong {
        fate: Fate::Other,
        status: 0,
        code: "listing".into(),
        message,
    }
}

impl Listing for Pages<'_> {
    fn next(&mut self) -> Result<Option<Entry>, Stopped> {
        loop {
            while let Some(item) = self.items.pop_front() {
                let key = item.key[self.prefix.len()..].to_vec();
                // The marker of the root itself.
                if key.is_empty() {
                    continue;
                }
                let size = item.size.unwrap_or_default();
                let marker = key.ends_with(b"/") && size == 0;
                return Ok(Some(Entry {
                    kind: if marker { Kind::Directory } else { Kind::File },
                    key,
                    size,
                    written: item.written,
                    tag: item.tag,
                    facts: item.facts,
                    failed: false,
                }));
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(Turned::Stopped) => return Err(Stopped::Aborted),
                Err(Turned::Wrong(wrong)) => {
                    let fault = match fault(Operation::List, self.side, &wrong) {
                        Fault {
                            cause: Cause::Answered("server", text),
                            ..
                        } => Fault {
                            operation: Operation::List,
                            side: self.side,
                            cause: Cause::Answered("listing", text),
                        },
                        fault => fault,
                    };
                    return Err(fault.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[&str], token: Option<&str>) -> Page {
        Page {
            items: keys
                .iter()
                .map(|key| Item {
                    key: key.as_bytes().to_vec(),
                    ..Item::default()
                })
                .collect(),
            truncated: token.is_some(),
            token: token.filter(|token| !token.is_empty()).map(str::to_owned),
            encoded: true,
        }
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        let all = |pages: &[Page]| {
            let mut order = Order::default();
            pages.iter().try_fold(None, |_, page| order.accept(page, "p/"))
        };
        assert_eq!(
            all(&[of(&["p/a", "p/a!", "p/a/b"], Some("1")), of(&["p/b"], None)]),
            Ok(None)
        );
        for (pages, words) in [
            (vec![of(&["p/a"], Some(""))], "not where"),
            (
                vec![of(&["p/a"], Some("1")), of(&["p/b"], Some("1"))],
                "again and again",
            ),
            (vec![of(&["p/b", "p/a"], None)], "out of order"),
            (vec![of(&["p/a"], Some("1")), of(&["p/a"], None)], "out of order"),
            (vec![of(&["p2/a"], None)], "not asked for"),
        ] {
            let told = all(&pages).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
