//! Lists that somebody else still writes, and outputs that somebody else reads: pipes, sockets, FIFOs and devices are read
//! and written with waiting, once, and none of them is replaced.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bulkhaul_engine::compare::options::{CompareOptions, SideOptions};
use bulkhaul_engine::copy::options::{CopyOptions, FilesFrom};
use bulkhaul_engine::job::Job;
use bulkhaul_engine::list::{self, ListOptions, sources};
use bulkhaul_engine::report::Report;
use bulkhaul_engine::walk::start::Root;
use bulkhaul_engine::{Kind, compare, copy};

use crate::rig::{Scratch, Tree, attempt, contents, copy, has_staging, named, options, renamed, root};

/// How late the other end comes. Whoever does not wait has failed by then.
const LATE: Duration = Duration::from_millis(150);

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn trees(path: &Path) -> Vec<Root> {
    vec![Root {
        path: bytes(path),
        follow: true,
        contents: true,
        pin: None,
    }]
}

/// The path of an open descriptor.
fn path_of(socket: &UnixStream) -> Vec<u8> {
    format!("/dev/fd/{}", socket.as_raw_fd()).into_bytes()
}

/// What Node.js makes of standard input: a socket that does not wait; into its other end `text` comes late, in two parts.
fn late(text: &'static str) -> UnixStream {
    let (read, mut write) = UnixStream::pair().unwrap();
    read.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        for part in [&text[..1], &text[1..]] {
            thread::sleep(LATE);
            write.write_all(part.as_bytes()).unwrap();
        }
    });
    read
}

fn names_from(path: Vec<u8>, source: &Path, to: &Path) -> CopyOptions {
    CopyOptions {
        files_from: Some(FilesFrom {
            path,
            nul: false,
            contents: false,
        }),
        ..options(&[contents(source)], to)
    }
}

fn three(scratch: &Scratch) -> Tree {
    let source = scratch.tree("source");
    source.file("a", "a\n").file("b", "b\n").file("d/c", "c\n");
    source
}

fn listing(source: &Path, output: Vec<u8>) -> Job {
    let options = ListOptions {
        sources: trees(source),
        hashes: false,
        output: Some(output),
        ..ListOptions::default()
    };
    list::job(options).unwrap()
}

fn complete(job: &Job) -> Report {
    let report = job.run().unwrap();
    assert!(report.is_complete(), "{report:?}");
    report
}

const NAMES: &str = "./\na\nb\nd/\nd/c\n";

#[test]
fn names_to_copy_are_waited_for() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let socket = late("d/c\na\n");
    let to = Tree::new(scratch.at("to"));
    complete(&copy::job(names_from(path_of(&socket), source.path(), to.path())).unwrap());
    assert_eq!(to.names(), ["a", "d", "d/c"]);

    // A FIFO that nobody has opened for writing yet.
    scratch.tree(".").special("fifo", Kind::Fifo, 0);
    let fifo = scratch.at("fifo");
    let writer = thread::spawn({
        let fifo = fifo.clone();
        move || {
            thread::sleep(LATE);
            fs::write(fifo, "b\n").unwrap();
        }
    });
    complete(&copy::job(names_from(bytes(&fifo), source.path(), to.path())).unwrap());
    writer.join().unwrap();
    assert_eq!(to.names(), ["a", "b", "d", "d/c"]);
}

#[test]
fn a_list_is_read_once_for_all_walks() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let socket = late("a\nd/c\n");
    let to = Tree::new(scratch.at("to"));
    let options = CopyOptions {
        remove_sources: true,
        require_space: true,
        ..names_from(path_of(&socket), source.path(), to.path())
    };
    let report = complete(&copy::job(options).unwrap());
    assert_eq!(to.names(), ["a", "d", "d/c"]);
    assert_eq!(source.names(), ["b", "d"]);
    // What stays are the two directories that were not listed as a whole.
    assert_eq!((report.removed_sources, report.kept_sources), (2, 2));
}

#[test]
fn a_name_that_is_missing_is_told_once() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    fs::write(scratch.at("names"), "a\nnope\nb/below\nno/such\n").unwrap();
    let to = scratch.at("to");
    let copied = copy(&[contents(source.path())], &to, |o| {
        *o = CopyOptions {
            remove_sources: true,
            ..names_from(bytes(&scratch.at("names")), source.path(), &to)
        };
    });
    assert_eq!(
        copied.failures(source.path()),
        [
            "missing stat ENOENT no",
            "missing stat ENOENT nope",
            "missing stat ENOTDIR b/below"
        ]
    );
    assert_eq!((copied.report.removed_sources, copied.report.kept_sources), (1, 1));
    assert_eq!(source.names(), ["b", "d", "d/c"]);
}

#[test]
fn sides_and_sources_from_lists_are_waited_for() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let side = |path: Vec<u8>| SideOptions::List { path, form: None };
    let socket = late(NAMES);
    let mut options = CompareOptions::new(side(path_of(&socket)), SideOptions::Trees(trees(source.path())));
    options.spill_directory = Some(bytes(scratch.path()));
    let report = complete(&compare::job(options).unwrap());
    let told = report.differences;
    assert_eq!((told.left, told.right, told.changed, told.left_entries), (0, 0, 0, 5));

    let socket = late("x/y\nz\n");
    let sources = sources::listed_sources(&path_of(&socket), Some(&bytes(scratch.path()))).unwrap();
    assert_eq!(sources, [b"x/y".to_vec(), b"z".to_vec()]);
}

#[test]
fn a_wish_to_stop_ends_the_waiting() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let (read, _write) = UnixStream::pair().unwrap();
    let to = scratch.at("to");
    let mut comparing = CompareOptions::new(
        SideOptions::List {
            path: path_of(&read),
            form: None,
        },
        SideOptions::Trees(trees(source.path())),
    );
    comparing.spill_directory = Some(bytes(scratch.path()));
    scratch.tree(".").special("fifo", Kind::Fifo, 0);
    let (full, _unread) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while (&full).write(&[b'x'; 4096]).is_ok() {}
    let jobs = [
        copy::job(names_from(path_of(&read), source.path(), &to)).unwrap(),
        compare::job(comparing).unwrap(),
        // Nobody reads these.
        listing(source.path(), bytes(&scratch.at("fifo"))),
        listing(source.path(), path_of(&full)),
    ];
    for (number, job) in jobs.iter().enumerate() {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(LATE);
                job.drain();
            });
            let report = job.run().unwrap();
            assert!(report.interrupted, "{number}: {report:?}");
        });
    }
    assert!(!to.exists());
    assert!(!has_staging(scratch.path()));
}

#[test]
fn what_is_no_regular_file_is_written_into() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    // A socket that does not wait, and whose reader comes late. The list is longer than what the socket holds.
    for number in 0..4000 {
        source.file(format!("many/{number:0>200}"), "");
    }
    complete(&listing(source.path(), bytes(&scratch.at("file"))));
    let expected = fs::read(scratch.at("file")).unwrap();
    let (mut read, write) = UnixStream::pair().unwrap();
    write.set_nonblocking(true).unwrap();
    let job = listing(source.path(), path_of(&write));
    thread::scope(|scope| {
        scope.spawn(|| {
            complete(&job);
            drop(write);
        });
        thread::sleep(LATE);
        let mut got = Vec::new();
        read.read_to_end(&mut got).unwrap();
        assert!(got == expected);
    });

    // A FIFO, by a symlink, whose reader comes late.
    scratch
        .tree(".")
        .special("fifo", Kind::Fifo, 0)
        .symlink("to fifo", "fifo");
    let fifo = scratch.at("fifo");
    let job = listing(source.path(), bytes(&scratch.at("to fifo")));
    thread::scope(|scope| {
        scope.spawn(|| complete(&job));
        thread::sleep(LATE);
        assert!(fs::read(&fifo).unwrap() == expected);
    });
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(scratch.at("to fifo")).unwrap().is_symlink());

    // A reader that leaves has seen enough.
    let (mut read, write) = UnixStream::pair().unwrap();
    let job = listing(source.path(), path_of(&write));
    thread::scope(|scope| {
        scope.spawn(|| complete(&job));
        read.read_exact(&mut [0; 100]).unwrap();
        drop(read);
    });

    // Nobody listens there.
    scratch.tree(".").special("socket", Kind::Socket, 0);
    let refused = listing(source.path(), bytes(&scratch.at("socket"))).run();
    assert_eq!(refused.unwrap_err().code(), "LIST");
    assert!(
        fs::symlink_metadata(scratch.at("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );

    if root() {
        // As /dev/null.
        let device = scratch.at("device");
        scratch.tree(".").special("device", Kind::Char, 0x103);
        complete(&listing(source.path(), bytes(&device)));
        assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device());
    }
    assert!(!has_staging(scratch.path()));
}

#[test]
fn an_open_file_goes_on_where_it_is() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let mut file = fs::File::create(scratch.at("out")).unwrap();
    file.write_all(b"first\n").unwrap();
    complete(&listing(source.path(), format!("/dev/fd/{}", file.as_raw_fd()).into()));
    assert_eq!(
        fs::read_to_string(scratch.at("out")).unwrap(),
        format!("first\n{NAMES}")
    );
}

#[test]
fn a_symlink_keeps_being_one() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let place = scratch.tree("place");
    place
        .file("old", "old\n")
        .symlink("to old", "old")
        .symlink("twice", "../place/to old")
        .symlink("to new", "below/new")
        .dir("below")
        .symlink("round", "round")
        .symlink("to directory", "below");
    let before = fs::metadata(place.at("old")).unwrap().ino();
    for (name, file) in [("to old", "old"), ("twice", "old"), ("to new", "below/new")] {
        complete(&listing(source.path(), bytes(&place.at(name))));
        assert!(fs::symlink_metadata(place.at(name)).unwrap().is_symlink(), "{name}");
        assert_eq!(fs::read_to_string(place.at(file)).unwrap(), NAMES, "{name}");
        fs::write(place.at(file), "").unwrap();
    }
    // It was put there as a whole.
    assert_ne!(fs::metadata(place.at("old")).unwrap().ino(), before);
    let names = place.names();
    for name in ["round", "to directory", "below", "old/x", "nowhere/x", ".", ""] {
        let refused = listing(source.path(), bytes(&place.path().join(name))).run();
        assert_eq!(refused.unwrap_err().code(), "LIST", "{name}");
    }
    assert_eq!(place.names(), names);
}

#[test]
fn what_a_destination_names_is_not_replaced() {
    let scratch = Scratch::new();
    let source = three(&scratch);
    let place = scratch.tree("place");
    place.special("fifo", Kind::Fifo, 0).special("socket", Kind::Socket, 0);
    place.symlink("to fifo", "fifo").symlink("open", "/proc/self/fd/1");
    let mut names = vec!["fifo", "socket", "to fifo", "open"];
    if root() {
        place.special("device", Kind::Char, 0x103);
        names.push("device");
    }
    let before = place.names();
    for name in names {
        let kind = |name: &str| fs::symlink_metadata(place.at(name)).unwrap().file_type();
        let was = kind(name);
        for dry_run in [true, false] {
            let refused = attempt(&[renamed(source.at("a"), name)], place.path(), |o| o.dry_run = dry_run);
            let refusal = refused.unwrap_err();
            assert_eq!(refusal.code(), "NO_DESTINATION", "{name}");
            assert!(refusal.to_string().contains(&format!("/{name}: it is a")), "{refusal}");
        }
        assert_eq!(kind(name), was);
        assert_eq!(place.names(), before);
    }
    // Its like stays, and in a tree it is replaced as rsync does it.
    source.special("pipe", Kind::Fifo, 0);
    let copied = copy(&[renamed(source.at("pipe"), "fifo")], place.path(), |_| {}).complete();
    assert_eq!(copied.counts(), "metadata 1");
    fs::rename(place.at("fifo"), place.at("a")).unwrap();
    copy(&[named(source.at("a"))], place.path(), |_| {}).complete();
    assert_eq!(place.read("a"), b"a\n");
}

#[test]
fn an_open_pipe_is_no_source() {
    let scratch = Scratch::new();
    let (read, _write) = UnixStream::pair().unwrap();
    let path = String::from_utf8(path_of(&read)).unwrap();
    let refused = attempt(&[renamed(&path, "f")], scratch.path(), |_| {}).unwrap_err();
    assert_eq!(refused.code(), "USAGE");
    assert!(refused.to_string().contains("cat writes what it gives"), "{refused}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}
