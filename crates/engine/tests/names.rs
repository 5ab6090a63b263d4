//! Names are bytes, and no path is too long, no tree too deep and no directory too wide.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_sys::failpoint::{self, Call, Effect, Plan};
use bulkhaul_sys::{self as sys, AsFd as _, Follow, OwnedFd};

use crate::rig::fault::{again, order, say, with_stops};
use crate::rig::{
    FEW_DESCRIPTORS, Scratch, Tree, apart, attempt, c_string, compare, contents, copy, has_staging, modified, named,
    same_path, set_time,
};

/// Names that have broken tools.
fn corpus() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"new\nline"[..],
        b"\xff\xfe",
        b"-rf",
        b"trailing ",
        b" leading",
        b"esc\x1b[31mred",
        "bidi\u{202e}txt.exe".as_bytes(),
        b"cr\r",
        b"tab\t",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"*?[",
        b"'\"",
        b"back\\slash",
        b"$(touch x)",
        b".hidden",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push(vec![b'n'; 255]);
    names
}

#[test]
fn seventeen_names() {
    let names = corpus();
    assert_eq!(names.len(), 17);
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for name in &names {
        let name = OsStr::from_bytes(name);
        source.file(name, name.as_bytes());
        source.file(Path::new("directories").join(name).join(name), "x");
        source.symlink(Path::new("links").join(name), name);
    }
    // As a whole; then into what was there, where names are staged one by one; then each as an argument.
    let copied = copy(&[contents(source.path())], scratch.at("to"), |_| {}).complete();
    compare(source.path(), &scratch.at("to"));
    assert_eq!(copied.counts(), format!("made {}, copied {}", 17 + 17 + 3, 17 + 17));
    for name in &names {
        let event = copied.entries.iter().find(|e| e.path == *name).unwrap();
        assert_eq!(
            event.source,
            [source.path().as_os_str().as_bytes(), b"/", name].concat()
        );
        assert_eq!(event.bytes, name.len() as u64);
    }
    let existing = scratch.tree("existing");
    for directory in ["directories", "links"] {
        existing.dir(directory);
    }
    copy(&[contents(source.path())], existing.path(), |_| {}).complete();
    compare(source.path(), existing.path());
    let arguments: Vec<_> = names.iter().map(|n| named(source.at(OsStr::from_bytes(n)))).collect();
    copy(&arguments, scratch.at("named"), |_| {}).complete();
    assert_eq!(scratch.tree("named").names().len(), 17);

    // A list of them, ended by NUL.
    let mut list = Vec::new();
    for name in &names {
        list.extend_from_slice(&[b"directories/", name.as_slice(), b"/", name, b"\0"].concat());
    }
    fs::write(scratch.at("list"), list).unwrap();
    let listed = copy(&[contents(source.path())], scratch.at("listed"), |o| {
        o.files_from = Some(bulkhaul_engine::copy::options::FilesFrom {
            path: scratch.at("list").into_os_string().into_encoded_bytes(),
            nul: true,
            contents: false,
        });
    });
    listed.complete();
    compare(&source.at("directories"), &scratch.at("listed/directories"));
}

/// The names of one long path.
fn long_names() -> Vec<CString> {
    let name = |level: u8| CString::new([vec![b'a' + level % 26; 197], format!("{level:03}").into_bytes()].concat());
    (0..60).map(|level| name(level).unwrap()).collect()
}

fn open(path: &Path) -> OwnedFd {
    sys::open_directory(sys::current_directory(), &c_string(path), Follow::No).unwrap()
}

fn enter(at: &OwnedFd, name: &CStr) -> OwnedFd {
    sys::open_directory(at.as_fd(), name, Follow::No).unwrap()
}

/// Makes a path of 60 names of 200 bytes, with a file at each level: 12 kB, three times what the kernel takes at once.
fn long_path(base: &Path) {
    let mut at = open(base);
    for (level, name) in long_names().iter().enumerate() {
        let file = sys::create_file(at.as_fd(), c"file").unwrap();
        sys::write_all_at(file.as_fd(), format!("level {level}").as_bytes(), 0).unwrap();
        sys::make_symlink(c"file", at.as_fd(), c"link").unwrap();
        sys::make_directory(at.as_fd(), name).unwrap();
        at = enter(&at, name);
    }
    let file = sys::create_file(at.as_fd(), c"deepest").unwrap();
    sys::write_all_at(file.as_fd(), b"bottom", 0).unwrap();
}

/// Asserts that both trees hold the long path from level `from` on, with the same content and times.
fn same_long_path(source: &Path, to: &Path, from: usize) {
    let read = |at: &OwnedFd, name: &CStr| {
        let file = sys::open_file(at.as_fd(), name).unwrap();
        let mut buffer = [0; 64];
        let n = sys::read_at(file.as_fd(), &mut buffer, 0).unwrap();
        let mtime = sys::stat_fd(file.as_fd()).unwrap().mtime;
        (buffer[..n].to_vec(), mtime)
    };
    let (mut one, mut two) = (open(source), open(to));
    for (level, name) in long_names().iter().enumerate() {
        if level >= from {
            assert_eq!(read(&one, c"file"), read(&two, c"file"), "level {level}");
            assert_eq!(sys::read_link(two.as_fd(), c"link").unwrap().as_c_str(), c"file");
            let mtime = |at: &OwnedFd| sys::stat_fd(at.as_fd()).unwrap().mtime;
            assert_eq!(mtime(&one), mtime(&two), "level {level}");
            two = enter(&two, name);
        }
        one = enter(&one, name);
    }
    assert_eq!(read(&one, c"deepest"), read(&two, c"deepest"));
    assert_eq!(read(&two, c"deepest").0, b"bottom");
}

#[test]
fn a_path_of_12_kb() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    long_path(source.path());
    let to = scratch.at("to");
    let copied = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(copied.counts(), "made 121, copied 61");
    same_long_path(source.path(), &to, 0);
    let again = copy(&[contents(source.path())], &to, |_| {}).complete();
    assert_eq!(again.counts(), "skipped 182 (unchanged 182)");

    // Such a path as source argument and as destination.
    let mut below: PathBuf = source.path().to_owned();
    let mut deep: PathBuf = scratch.at("deep");
    for name in &long_names()[..40] {
        below.push(OsStr::from_bytes(name.to_bytes()));
        deep.push(OsStr::from_bytes(name.to_bytes()));
    }
    copy(&[contents(&below)], scratch.at("part"), |_| {}).complete();
    same_long_path(source.path(), &scratch.at("part"), 40);
    copy(&[contents(&below)], &deep, |_| {}).complete();
    let again = copy(&[contents(&below)], &deep, |_| {}).complete();
    assert_eq!(again.counts(), "skipped 62 (unchanged 62)");
}

/// Deeper than there are descriptors, with files and links at each level.
#[test]
fn deeper_than_the_descriptor_limit() {
    const LEVELS: usize = 150;
    let at_level = |base: &Path, level: usize| (0..level).fold(base.to_owned(), |path, _| path.join("d"));
    apart(
        "names::deeper_than_the_descriptor_limit",
        FEW_DESCRIPTORS,
        |scratch| {
            let source = scratch.tree("source");
            for level in 0..LEVELS {
                let path = at_level(source.path(), level);
                fs::create_dir_all(&path).unwrap();
                for n in 0..3 {
                    fs::write(path.join(format!("file-{n}")), format!("{level} {n}")).unwrap();
                }
                // Beside the way down, so that what was closed is opened again.
                fs::create_dir(path.join("a-side")).unwrap();
                fs::write(path.join("a-side/f"), "x").unwrap();
                fs::create_dir(path.join("z-side")).unwrap();
                fs::hard_link(path.join("file-0"), path.join("z-side/link")).unwrap();
            }
            fs::write(source.at("top"), "linked").unwrap();
            fs::hard_link(
                source.at("top"),
                at_level(source.path(), LEVELS - 1).join("linked-to-top"),
            )
            .unwrap();
        },
        |at| {
            assert_eq!(sys::descriptor_limit(), 64);
            for (to, jobs) in [("to-1", 1), ("to-8", 8), ("to-8", 8), ("to-1", 1)] {
                let copied = copy(&[contents(at.join("source"))], at.join(to), |o| o.jobs = jobs).complete();
                let found = 1 + (LEVELS - 1) + LEVELS * (3 + 2 + 2) + 2;
                assert_eq!(copied.report.totals.all_found(), found as u64);
            }
            // One file has changed at each level; the directories are there.
            for level in 0..LEVELS {
                fs::write(at_level(&at.join("source"), level).join("file-1"), "changed").unwrap();
            }
            copy(&[contents(at.join("source"))], at.join("to-8"), |o| o.jobs = 8).complete();
        },
        |scratch| {
            compare(&scratch.at("source"), &scratch.at("to-8"));
            let bottom = at_level(&scratch.at("to-8"), LEVELS - 1).join("linked-to-top");
            assert!(same_path(&scratch.at("to-8/top"), &bottom));
            assert!(!has_staging(&scratch.at("to-1")) && !has_staging(&scratch.at("to-8")));
        },
    );
}

/// Many files that wait for their sync hold descriptors, too.
#[test]
fn many_syncs_with_few_descriptors() {
    apart(
        "names::many_syncs_with_few_descriptors",
        FEW_DESCRIPTORS,
        |scratch| {
            let source = scratch.tree("source");
            for n in 0..200 {
                source.file(format!("file-{n}"), crate::rig::content(1, (64 << 10) + 1));
            }
        },
        |at| {
            copy(&[contents(at.join("source"))], at.join("to"), |o| o.jobs = 16).complete();
        },
        |scratch| compare(&scratch.at("source"), &scratch.at("to")),
    );
}

#[test]
fn a_flat_directory_of_20_000_files() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for n in 0..20_000_u32 {
        fs::write(source.path().join(format!("file-number-{n}")), n.to_le_bytes()).unwrap();
    }
    let jobs = |o: &mut CopyOptions| o.jobs = 4;
    let copied = copy(&[contents(source.path())], scratch.at("to"), jobs).complete();
    assert_eq!(copied.counts(), "made 1, copied 20000");
    compare(source.path(), &scratch.at("to"));
    // Into a directory that is there: each under a staging name.
    let again = copy(&[contents(source.path())], scratch.at("to"), jobs).complete();
    assert_eq!(again.counts(), "skipped 20001 (unchanged 20001)");
    for n in (0..20_000_u32).step_by(3) {
        let path = scratch.at("to").join(format!("file-number-{n}"));
        if n % 2 == 0 {
            fs::remove_file(path).unwrap();
        } else {
            set_time(&path, 1_000_000_000, 0);
        }
    }
    let again = copy(&[contents(source.path())], scratch.at("to"), jobs).complete();
    assert_eq!(again.report.totals.file_outcomes[1], 6667, "{}", again.counts());
    compare(source.path(), &scratch.at("to"));
}

#[test]
fn a_directory_of_5_000_directories() {
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for n in 0..5_000 {
        let path = source.path().join(format!("directory-{n}"));
        fs::create_dir(&path).unwrap();
        if n % 2 == 0 {
            fs::write(path.join("f"), "x").unwrap();
        }
        set_time(&path, 1_000_000_000 + n, 7);
    }
    let copied = copy(&[contents(source.path())], scratch.at("to"), |o| o.jobs = 4).complete();
    assert_eq!(copied.counts(), "made 5001, copied 2500");
    compare(source.path(), &scratch.at("to"));
    assert_eq!(modified(&scratch.at("to/directory-4321")), (1_000_004_321, 7));
    let again = copy(&[contents(source.path())], scratch.at("to"), |o| o.jobs = 4).complete();
    assert_eq!(again.counts(), "skipped 7501 (unchanged 7501)");
}

/// Somebody else makes the same directories meanwhile, and one of them gets the number of one that this run had staged: it is
/// not what another name has arrived at.
#[test]
fn a_number_that_is_given_again_is_no_name_of_this_run() {
    const TEST: &str = "names::a_number_that_is_given_again_is_no_name_of_this_run";
    if let Some(words) = order() {
        failpoint::arm(Some(Plan {
            call: Some(Call::MakeDirectory),
            nth: 0,
            count: usize::MAX,
            effect: Effect::Stop,
        }));
        let copied = attempt(&[contents(&words[0])], &words[1], |o| o.jobs = 1);
        return say(&copied.unwrap().complete().counts());
    }
    let scratch = Scratch::new();
    // It gives a number again at once.
    let Some(disk) = scratch.file_system("ext4", "rw") else {
        return;
    };
    let (source, to) = (scratch.tree("source"), Tree::new(disk.join("to")));
    source.file("above/one/f", "1").file("above/two/f", "2");
    let words = [source.path(), to.path()].map(|path| path.display().to_string());
    let log = scratch.at("log");
    let [above, spare] = ["above", "above/spare"].map(|name| to.path().join(name));
    let names = ["one", "two"].map(|name| above.join(name));
    let said = with_stops(again(TEST, &words, &log), &log, |turn| match turn {
        0 => assert!(!above.exists()),
        1 => names.iter().for_each(|name| fs::create_dir(name).unwrap()),
        // What is made now has the number of what went.
        _ => {
            fs::create_dir(&spare).unwrap();
            let empty = names.iter().find(|name| fs::remove_dir(name).is_ok());
            fs::rename(&spare, empty.unwrap()).unwrap();
        }
    });
    assert!(said.contains("copied 2"), "{said}");
    compare(source.path(), to.path());
}
