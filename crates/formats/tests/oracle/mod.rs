//! Programs that somebody else wrote, to compare with.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::process::{Command, Stdio};

/// Whether `program` runs here; when not, says why the test is skipped.
pub fn available(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What it answers does not matter: hashdeep does not know this option.
        .status()
        .is_ok();
    if !found {
        println!("skip: {program} is not installed");
    }
    found
}
