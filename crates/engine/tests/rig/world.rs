//! The world of a test: views of directories, and file systems with faults.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Scratch, command, has, must, root};

impl Scratch {
    /// A view of the directory `of` that has faults: `options` as faultfs.py beside this file tells them, with commas
    /// between them. `None`: it can't be had here, and that was printed.
    pub fn faulty(&self, of: &Path, options: &str) -> Option<PathBuf> {
        if !root() {
            return None;
        }
        let point = self.point("faulty");
        // The one that the system's packages are for.
        let started = Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/faultfs.py"))
            .args([of, &point])
            .args(["-o", options])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut server = match started {
            Ok(server) => server,
            Err(error) => {
                println!("skip: python3: {error}");
                return None;
            }
        };
        let mut said = String::new();
        BufReader::new(server.stdout.as_mut().unwrap())
            .read_line(&mut said)
            .unwrap();
        if said == "ready\n" {
            self.servers.lock().unwrap().push(server);
            return Some(point);
        }
        assert_eq!(server.wait().unwrap().code(), Some(1), "{options}: {said}");
        println!("skip: {}", said.trim());
        None
    }

    /// A view of directories: by `bindfs` of one, `mergerfs` of several, or `overlay` of an upper one and lower ones below
    /// it. `options` as of mount. `None`: it can't be had here, and that was printed.
    pub fn view(&self, kind: &str, of: &[&Path], options: &str) -> Option<PathBuf> {
        if !root() {
            return None;
        }
        let point = self.point(kind);
        let several = |paths: &[&Path]| {
            let texts: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
            texts.join(":")
        };
        let output = if kind == "overlay" {
            let work = self.point("work");
            let (upper, lower) = (several(&of[..1]), several(&of[1..]));
            let all = format!("upperdir={upper},lowerdir={lower},workdir={}", work.display());
            command(
                "mount",
                &[&"-t", &"overlay", &"overlay", &"-o", &all, &"-o", &options, &point],
            )
        } else if has(kind) {
            // It goes into the background when it is mounted, and ends when it no longer is.
            command(kind, &[&"-o", &options, &several(of), &point])
        } else {
            println!("skip: there is no {kind}");
            return None;
        };
        if !output.status.success() {
            println!("skip: {kind}: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(point)
    }

    /// A new NTFS, by `lowntfs-3g`, in an image: with `ignore_case` it takes names for the same whatever their case.
    /// `None`: it can't be had here, and that was printed.
    pub fn ntfs(&self, options: &str) -> Option<PathBuf> {
        if !root() {
            return None;
        }
        for program in ["mkntfs", "lowntfs-3g"] {
            if !has(program) {
                println!("skip: there is no {program}");
                return None;
            }
        }
        let point = self.point("ntfs");
        let image = point.with_extension("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        must("mkntfs", &[&"-q", &"-F", &"-f", &image]);
        let output = command("lowntfs-3g", &[&"-o", &options, &image, &point]);
        if !output.status.success() {
            println!("skip: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(point)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::mpsc;

    use bulkhaul_sys::{Errno, Kind};

    use super::super::{Tree, compare, modified, set_time};
    use super::*;

    fn errno(result: std::io::Result<()>) -> Option<Errno> {
        Errno::from_io_error(&result.unwrap_err())
    }

    #[test]
    fn without_faults_it_is_a_plain_view() {
        let scratch = Scratch::new();
        let (seen, made) = (scratch.tree("seen"), scratch.tree("made"));
        let (Some(one), Some(other)) = (scratch.faulty(seen.path(), ""), scratch.faulty(made.path(), "")) else {
            return;
        };
        let latin = std::ffi::OsStr::from_bytes(b"d/\xe9\xff");
        seen.file("d/f", vec![7; 300_000]).link("h", "d/f").symlink("l", "none");
        seen.file(latin, "x")
            .special("p", Kind::Fifo, 0)
            .xattr("h", "user.a", b"");
        seen.owner("l", 12, 34)
            .mode("d", 0o2750)
            .time("l", -5, 7)
            .time("d", 9, 123_456_789);
        compare(seen.path(), &one);
        must(
            "rsync",
            &[&"-aHAX", &"--modify-window=-1", &format!("{}/", one.display()), &other],
        );
        compare(seen.path(), made.path());
        let id = |path: &Path| fs::symlink_metadata(path).map(|m| (m.ino(), m.ctime_nsec())).unwrap();
        assert_eq!(id(&one.join("h")), id(&seen.at("h")));
    }

    #[test]
    fn each_fault_is_seen() {
        let scratch = Scratch::new();
        let at = |options: &str| {
            let source = scratch.tree(&options.replace(['=', ','], "-"));
            source.file("f", "12345").file("g", "67890");
            Some((scratch.faulty(source.path(), options)?, source))
        };
        let Some((seen, _)) = at("larger=2") else { return };
        let stated = |path: &Path| (fs::metadata(path).unwrap().len(), fs::read(path).unwrap().len());
        assert_eq!(stated(&seen.join("f")), (7, 5));
        assert_eq!(stated(&at("smaller=2").unwrap().0.join("f")), (3, 5));
        assert_eq!(stated(&at("short=2").unwrap().0.join("f")), (5, 3));
        let seen = at("short=2,only=g").unwrap().0;
        assert_eq!((stated(&seen.join("f")), stated(&seen.join("g"))), ((5, 5), (5, 3)));

        let (seen, _) = at("inode=77").unwrap();
        for name in ["f", "g"] {
            let about = fs::metadata(seen.join(name)).unwrap();
            assert_eq!((about.ino(), about.nlink()), (77, 2));
        }

        let (seen, source) = at("fold").unwrap();
        fs::write(seen.join("F"), "x").unwrap();
        assert_eq!(
            (source.names(), source.read("f")),
            (vec!["f".into(), "g".into()], b"x".into())
        );
        assert_eq!(errno(fs::create_dir(seen.join("G"))), Some(Errno::EXIST));

        let (seen, source) = at("granularity=1000000000,latest=2000000000").unwrap();
        for (given, kept) in [((5, 7), (5, 0)), ((2_000_000_001, 1), (2_000_000_000, 0))] {
            set_time(&seen.join("f"), given.0, given.1);
            assert_eq!((modified(&seen.join("f")), modified(&source.at("f"))), (kept, kept));
        }

        let (seen, _) = at("nochown=EPERM,nochmod=EOPNOTSUPP,noutimens=ignored").unwrap();
        let seen = Tree::new(seen);
        let before = modified(&seen.at("f"));
        set_time(&seen.at("f"), 5, 5);
        assert_eq!(modified(&seen.at("f")), before);
        assert_eq!(
            errno(std::os::unix::fs::chown(seen.at("f"), Some(5), None)),
            Some(Errno::PERM)
        );

        let (seen, source) = at("nocreate=ENOKEY,only=/locked").unwrap();
        source.file("locked/f", "");
        assert_eq!(errno(fs::write(seen.join("locked/new"), "")), Some(Errno::NOKEY));
        fs::write(seen.join("new"), "").unwrap();
        fs::remove_file(seen.join("locked/f")).unwrap();
    }

    #[test]
    fn a_read_hangs_until_it_is_let_go() {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        let go = scratch.at("go");
        let options = format!("hang,only=f,until={}", go.display());
        let Some(seen) = scratch.faulty(source.file("f", "x").file("other", "y").path(), &options) else {
            return;
        };
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(fs::read(seen.join("f"))).unwrap());
            assert_eq!(fs::read(seen.join("other")).unwrap(), b"y");
            receiver.try_recv().unwrap_err();
            fs::write(&go, "").unwrap();
        });
        assert_eq!(receiver.recv().unwrap().unwrap(), b"x");
    }

    #[test]
    fn views_show_what_they_are_of() {
        let scratch = Scratch::new();
        let source = scratch.tree("source");
        let below = scratch.tree("below");
        source.file("f", "x");
        below.file("g", "y");
        for kind in ["bindfs", "mergerfs", "overlay"] {
            let of = [source.path(), below.path()];
            let Some(seen) = scratch.view(kind, &of[..if kind == "bindfs" { 1 } else { 2 }], "") else {
                continue;
            };
            assert_eq!(fs::read(seen.join("f")).unwrap(), b"x", "{kind}");
            assert_eq!(seen.join("g").exists(), kind != "bindfs", "{kind}");
        }
        if let Some(ntfs) = scratch.ntfs("ignore_case") {
            fs::write(ntfs.join("Name"), "x").unwrap();
            assert_eq!(fs::read(ntfs.join("nAME")).unwrap(), b"x");
        }
    }
}
