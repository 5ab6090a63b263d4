//! `--chmod` against the real rsync: random mode changes on files and directories of many modes.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod oracle;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bulkhaul_formats::Chmod;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const MODES: [u32; 12] = [
    0, 0o421, 0o600, 0o644, 0o640, 0o755, 0o752, 0o1777, 0o2613, 0o2750, 0o4751, 0o6777,
];

fn text() -> impl Strategy<Value = String> {
    let change = prop_oneof![
        "[DF]?[0-7]{1,4}",
        // rsync forgets a `t` before an `s` that has neither u nor g; that is not followed.
        "[DF]?[ugoa]{0,3}[-+=][rwxX]{0,3}s?[wX]?t?",
        "[DF]?[oa]?[ug][-+=][rwxXst]{0,4}",
        "[DF]?[ugoa]{0,2}[-+=][ugo]",
        "[DF]?[ugoa]?[-+=]{1,2}[rwxgX,]{0,2}",
        "(DF|FD)[ugoa]?[-+=][rwx]",
    ];
    prop::collection::vec(change, 1..4).prop_map(|changes| changes.join(","))
}

#[test]
fn as_rsync() {
    if !oracle::available("rsync") {
        return;
    }
    // The modes of files that nobody may read are only kept for a reader who may.
    if !may_read_all() {
        println!("skip: rsync must read files of mode 0, which takes root");
        return;
    }
    let rig = tempfile::tempdir().unwrap();
    let source = rig.path().join("source");
    fs::create_dir(&source).unwrap();
    for mode in MODES {
        fs::write(source.join(format!("f{mode:04o}")), b"").unwrap();
        fs::create_dir(source.join(format!("d{mode:04o}"))).unwrap();
        for kind in ["f", "d"] {
            let path = source.join(format!("{kind}{mode:04o}"));
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let counter = std::cell::Cell::new(0);
    runner
        .run(&text(), |text| {
            counter.set(counter.get() + 1);
            let destination = rig.path().join(format!("d{}", counter.get()));
            // sh sets the umask for rsync alone; the text is an argument, not part of the script.
            let run = std::process::Command::new("sh")
                .args([
                    "-c",
                    "umask 022 && exec rsync -rp \"--chmod=$1\" \"$2/\" \"$3/\"",
                    "sh",
                    &text,
                ])
                .args([&source, &destination])
                .output()
                .unwrap();
            let ours = Chmod::parse(&text, 0o022);
            prop_assert_eq!(ours.is_ok(), run.status.success(), "{}: {:?}", text, run);
            if let Ok(chmod) = ours {
                for mode in MODES {
                    for (kind, is_directory) in [("f", false), ("d", true)] {
                        let path = destination.join(format!("{kind}{mode:04o}"));
                        let theirs = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                        let ours = chmod.apply(mode, is_directory);
                        prop_assert_eq!(
                            ours,
                            theirs,
                            "{} on {}{:04o}: {:04o}, rsync {:04o}",
                            text,
                            kind,
                            mode,
                            ours,
                            theirs
                        );
                    }
                }
                fs::remove_dir_all(&destination).unwrap();
            }
            Ok(())
        })
        .unwrap();

    println!("{} mode changes compared", counter.get());
}

/// Whether this process may read everything: it owns the directory of its own process.
fn may_read_all() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
