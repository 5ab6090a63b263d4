//! The file that says how to turn the left side into the right one.
//!
//! Comes in: pairs of records that differ, in the order of their paths; goes out: a file in one of three forms, whole or not at
//! all.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};

use bulkhaul_formats::lists::changes::{self, Op, State};
use bulkhaul_formats::lists::hpcp::{self, Facts, Form};
use bulkhaul_formats::lists::natural;
use bulkhaul_sys::Kind;

use crate::bytes::output::Output;
use crate::bytes::transfer::BUFFER_BYTES;
use crate::compare::options::DiffForm;
use crate::error::Refusal;
use crate::records::record::Record;
use crate::records::sort::{Sorted, Sorter, Sorters};

/// The file that says how to turn the left side into the right one.
pub struct ChangesFile<'c> {
    output: Output,
    form: DiffForm,
    sorters: &'c Sorters,
    /// What the left side has waits here for the end.
    removed: Option<BufWriter<File>>,
    /// The rows of a change list, which has an order of its own.
    rows: Option<Sorter>,
    /// With the extended attributes.
    xattrs: bool,
    /// tar was told not to go into directories.
    flat: bool,
    plain: Vec<u8>,
    line: Vec<u8>,
}

impl<'c> ChangesFile<'c> {
    /// Nothing is in it yet. `xattrs`: of a change list, with the extended attributes.
    pub fn new(mut output: Output, form: DiffForm, xattrs: bool, sorters: &'c Sorters) -> Result<Self, Refusal> {
        if form == DiffForm::Changes {
            output.write(changes::HEADER)?;
        }
        Ok(Self {
            output,
            form,
            sorters,
            removed: None,
            rows: (form == DiffForm::Changes).then(|| sorters.sorter()),
            xattrs,
            flat: false,
            plain: Vec::new(),
            line: Vec::new(),
        })
    }

    /// A row of a change list, or two for what is of another type.
    fn add_row(&mut self, left: Option<&Record<'_>>, right: Option<&Record<'_>>) -> Result<(), Refusal> {
        if let (Some(new), Some(old)) = (left, right)
            && new.kind != old.kind
            && ![new.kind, old.kind].contains(&Kind::Unknown)
        {
            self.add_row(None, right)?;
            return self.add_row(left, None);
        }
        let Some(rows) = &mut self.rows else { return Ok(()) };
        let (op, one) = match (left, right) {
            (Some(left), Some(_)) => (Op::Modify, left),
            (Some(left), None) => (Op::Add, left),
            (None, Some(right)) => (Op::Remove, right),
            (None, None) => return Ok(()),
        };
        let name = changes::name(one.path, one.kind == Kind::Directory);
        let xattrs = self.xattrs;
        let old = right.map_or(State::Absent, |record| record.state(xattrs));
        let new = left.map_or(State::Absent, |record| record.state(xattrs));
        self.line.clear();
        changes::row(op, &name, &old, &new, &mut self.line);
        self.plain.clear();
        self.plain.push(op as u8);
        natural::append_key(&name, &mut self.plain);
        rows.push(&self.plain, &self.line)
            .map_err(|errno| self.sorters.refusal(errno))
    }

    /// What differs, as either side has it.
    pub fn add(&mut self, left: Option<&Record<'_>>, right: Option<&Record<'_>>) -> Result<(), Refusal> {
        if self.form == DiffForm::Changes {
            return self.add_row(left, right);
        }
        if let Some(right) = right {
            let directory = right.kind == Kind::Directory;
            if self.form == DiffForm::Tar {
                self.line.clear();
                // What is in a new directory has lines of its own.
                if directory && !self.flat {
                    self.line.extend_from_slice(b"--no-recursion\n");
                    self.flat = true;
                }
                hpcp::tar_line(right.path, directory, &mut self.line);
            } else {
                self.name(right);
            }
            self.output.write(&self.line)?;
        }
        if let (Some(left), DiffForm::Both) = (left, self.form) {
            self.name(left);
            let removed = match &mut self.removed {
                Some(removed) => removed,
                none => none.insert(BufWriter::new(File::from(self.sorters.file()?))),
            };
            let written = removed
                .write_all(hpcp::REMOVED)
                .and_then(|()| removed.write_all(&self.line));
            written.map_err(|error| self.sorters.failed(&error))?;
        }
        Ok(())
    }

    fn name(&mut self, record: &Record<'_>) {
        let facts = if record.kind == Kind::Directory {
            Facts::Directory
        } else {
            Facts::Nothing
        };
        hpcp::plain_line(record.path, &facts, Form::Names, &mut self.plain);
        hpcp::line(record.path, &facts, Form::Names, &self.plain, &mut self.line);
        self.line.push(b'\n');
    }

    /// There is to be none.
    pub fn discard(self) -> Result<(), Refusal> {
        self.output.discard()
    }

    /// It is whole now. False: the run was stopped while somebody was to read the rest.
    pub fn finish(mut self) -> Result<bool, Refusal> {
        match self.append() {
            Ok(()) => self.output.finish(),
            Err(refusal) => self.output.discard().and(Err(refusal)),
        }
    }

    fn append(&mut self) -> Result<(), Refusal> {
        if let Some(rows) = self.rows.take() {
            let mut sorted = Sorted::merge(vec![rows]).map_err(|errno| self.sorters.refusal(errno))?;
            while let Some((_, row)) = sorted.next().map_err(|errno| self.sorters.refusal(errno))? {
                self.output.write(row)?;
            }
        }
        let Some(removed) = self.removed.take() else {
            return Ok(());
        };
        let failed = |error: &io::Error| self.sorters.failed(error);
        let mut removed = removed.into_inner().map_err(|error| failed(error.error()))?;
        removed.rewind().map_err(|error| failed(&error))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match removed.read(&mut buffer).map_err(|error| failed(&error))? {
                0 => return Ok(()),
                length => self.output.write(&buffer[..length])?,
            }
        }
    }
}
