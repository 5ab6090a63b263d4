#!/usr/bin/python3
"""A file system of the tests whose faults are options: `faultfs.py SOURCE MOUNTPOINT [-o OPTION,OPTION…]`.

It is a view of SOURCE: every name (as bytes), kind, link, attribute and time passes through, in both directions, and
inode numbers and change times are those of SOURCE (the device number is its own). Without options it is a plain view
of another directory. Needs root and Debian's python3-fusepy (libfuse 2), which knows no flags of rename: as on other
such file systems, RENAME_NOREPLACE is refused with EINVAL.

It prints `ready` when it is mounted, and runs until its standard input ends; then it unmounts itself, whatever waits
for it. Where it cannot be had it prints why, exit code 1; exit code 2: bad options.

What is stated of files:
  larger=N       the size is stated N bytes larger than the content
  smaller=N      the size is stated N bytes smaller than the content (reads go on to the end, as in /proc)
  short=N        reads end N bytes before the true size, as where a read error becomes the end of the file
  hang           reads never return; each prints `hangs`
  until=PATH     … until this file appears
  inode=N        every file has this inode number and at least two links; with `inode=N` and `alike`, directories too
  only=SUFFIX    the above, and `nocreate`, are meant for paths that end so (for nocreate: paths of directories)
  unlisted       listing a directory below the top never returns; each prints `hangs`
  direct         past the page cache, as lies about sizes always are: a read that hangs cannot even be killed
  unknown        directories are listed without the kinds of their entries
  stale          the first new directory below another is made, but mkdir answers ESTALE, and its name leads to nothing
                 until one more is made: so it is where that has the number of a directory that is just going
What it does to names and times:
  fold           names are the same whatever their case; the first spelling is kept
  fold=form      names are the same whatever their Unicode normal form
  granularity=N  times are kept to whole multiples of N nanoseconds
  cuts           what is renamed keeps whole seconds only, as in encfs
  earliest=S, latest=S  times before or after are kept as this one, in seconds since 1970
What it refuses, each with the error number of that name, or with `ignored`: it then answers success and does nothing:
  nochown=E nochmod=E noutimens=E nolink=E nosymlink=E nomknod=E nofsync=E notruncate=E nounlink=E normdir=E norename=E
  noxattr=E      setting and removing; with EOPNOTSUPP, reading too
  nocreate=E     whatever gives a new name: create, mkdir, mknod, symlink, link, rename
  squash=N       what is made belongs to this user and group, as where a server trusts no root
"""

import ctypes
import errno
import os
import resource
import stat
import sys
import threading
import time
import unicodedata

SECOND = 10**9
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MNT_DETACH = 2
# One character a byte, both ways: names are bytes.
BYTES = "latin-1"

NUMBERS = {"larger", "smaller", "short", "inode", "granularity", "earliest", "latest", "squash"}
WORDS = {"hang", "unlisted", "alike", "direct", "unknown", "fold", "stale", "cuts"}
TEXTS = {"until", "only", "fold"}
CREATING = ["create", "mkdir", "mknod", "symlink", "link", "rename"]
REFUSED = {
    "nochown": ["chown"],
    "nochmod": ["chmod"],
    "noutimens": ["utimens"],
    "nolink": ["link"],
    "nosymlink": ["symlink"],
    "nomknod": ["mknod"],
    "nofsync": ["fsync", "fsyncdir"],
    "notruncate": ["truncate"],
    "nounlink": ["unlink"],
    "normdir": ["rmdir"],
    "norename": ["rename"],
    "noxattr": ["setxattr", "removexattr"],
}


class Bad(Exception):
    """A bad option."""


class Options:
    def __init__(self, text):
        self.larger = self.smaller = self.short = 0
        self.inode = self.squash = self.earliest = self.latest = None
        self.granularity = 1
        self.hang = self.unlisted = self.alike = self.direct = self.unknown = self.stale = self.cuts = False
        self.fold = self.until = None
        self.only = b""
        # By operation: the error number, 0 for one that is answered with success and not done.
        self.refused = {}
        self.nocreate = None
        for each in filter(None, text.split(",")):
            name, given, value = each.partition("=")
            self.take(name, value if given else None)

    def take(self, name, value):
        if name in NUMBERS and value is not None:
            try:
                setattr(self, name, int(value))
            except ValueError:
                raise Bad(f"{name}={value}: no number") from None
        elif name in WORDS and value is None:
            setattr(self, name, "case" if name == "fold" else True)
        elif name == "fold" and value != "form":
            raise Bad(f"fold={value}: fold, or fold=form")
        elif name in TEXTS and value is not None:
            setattr(self, name, os.fsencode(value) if name != "fold" else value)
        elif (name in REFUSED or name == "nocreate") and value is not None:
            number = 0 if value == "ignored" else getattr(errno, value, None)
            if number is None:
                raise Bad(f"{name}={value}: no error number of this name")
            if name == "nocreate":
                self.nocreate = number
            else:
                self.refused.update(dict.fromkeys(REFUSED[name], number))
                if name == "noxattr" and number == errno.EOPNOTSUPP:
                    self.refused.update(getxattr=number, listxattr=number)
        else:
            raise Bad(f"{name}: no such option, or its value is missing or too much")


def say(word):
    """In one write: whoever reads it gets the line as a whole."""
    os.write(1, word.encode() + b"\n")


def refusal(number):
    return OSError(number, os.strerror(number))


class View:
    """The operations, as fusepy calls them: paths come as text of one character a byte."""

    use_ns = True
    # Files that are open have no path once their name is gone; times that are not set are told as such.
    flag_nullpath_ok = 1
    flag_utime_omit_ok = 1

    def __init__(self, source, options, caller):
        # By descriptor: what is mounted on the source later, this view itself too, does not change what it shows.
        self.base = b"/proc/self/fd/%d/." % os.open(source, os.O_PATH | os.O_DIRECTORY)
        self.options = options
        self.caller = caller
        # The path of the directory that nobody can see yet.
        self.hidden = None

    def __call__(self, operation, *args):
        options = self.options
        number = options.refused.get(operation)
        if number is None and options.nocreate is not None and operation in CREATING:
            # The new name is the first argument, but in a rename.
            new = args[1] if operation == "rename" else args[0]
            if self.meant(os.path.dirname(new)):
                number = options.nocreate
        if number is not None:
            if number:
                raise refusal(number)
            return b"" if operation == "getxattr" else 0
        return getattr(self, operation)(*args)

    def meant(self, path):
        return path is not None and path.encode(BYTES).endswith(self.options.only)

    # Names.

    def key(self, name):
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return name
        return text.casefold() if self.options.fold == "case" else unicodedata.normalize("NFC", text)

    def real(self, path):
        """Where an entry is, or would be made."""
        path = path.encode(BYTES)
        if self.options.fold is None:
            return self.base + path
        there = self.base
        for name in filter(None, path.split(b"/")):
            exact = there + b"/" + name
            if not os.path.lexists(exact):
                same = [n for n in self.listed(there) if self.key(n) == self.key(name)]
                exact = there + b"/" + (same[0] if same else name)
            there = exact
        return there

    @staticmethod
    def listed(directory):
        try:
            return os.listdir(directory)
        except OSError:
            return []

    def made(self, real):
        """Gives what was made to whom it belongs: the server is root."""
        user, group = self.caller()[:2] if self.options.squash is None else (self.options.squash,) * 2
        if os.lstat(os.path.dirname(real) + b"/.").st_mode & stat.S_ISGID:
            group = -1
        if user or group > 0:
            os.lchown(real, user, group)

    # What is stated.

    def kept(self, nanoseconds):
        options = self.options
        if options.earliest is not None:
            nanoseconds = max(nanoseconds, options.earliest * SECOND)
        if options.latest is not None:
            nanoseconds = min(nanoseconds, options.latest * SECOND)
        return nanoseconds - nanoseconds % options.granularity

    def stated(self, path, about):
        answer = {name: getattr(about, name) for name in dir(about) if name.startswith("st_")}
        for name in ("st_atime", "st_mtime", "st_ctime"):
            answer[name] = self.kept(getattr(about, name + "_ns"))
        options, kind = self.options, stat.S_IFMT(about.st_mode)
        if self.meant(path):
            if kind == stat.S_IFREG:
                answer["st_size"] = max(0, about.st_size + options.larger - options.smaller)
            if options.inode is not None and (kind != stat.S_IFDIR or options.alike):
                answer.update(st_ino=options.inode, st_nlink=max(2, about.st_nlink))
        return answer

    def getattr(self, path, info=None):
        if not info and path == self.hidden:
            raise refusal(errno.ENOENT)
        about = os.fstat(info.fh) if info else os.lstat(self.real(path))
        return self.stated(path, about)

    def readlink(self, path):
        return os.readlink(self.real(path)).decode(BYTES)

    def statfs(self, path):
        about = os.statvfs(self.real(path))
        return {name: getattr(about, name) for name in dir(about) if name.startswith("f_")}

    # Directories.

    def opendir(self, path):
        return os.open(self.real(path), os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path, _handle):
        if self.options.unlisted and path != "/":
            say("hangs")
            while True:
                time.sleep(1)
        names = [".", ".."]
        with os.scandir(self.real(path)) as entries:
            for entry in entries:
                name = entry.name.decode(BYTES)
                if self.options.unknown:
                    names.append(name)
                    continue
                try:
                    about = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                names.append((name, self.stated(os.path.join(path, name), about), 0))
        return names

    def releasedir(self, _path, handle):
        os.close(handle)

    def fsyncdir(self, _path, _datasync, handle):
        os.fsync(handle)

    def mkdir(self, path, mode):
        # The kernel asks a second time.
        if path == self.hidden:
            raise refusal(errno.ESTALE)
        real = self.real(path)
        os.mkdir(real, mode)
        self.made(real)
        self.hidden = None
        if self.options.stale and os.path.dirname(path) != "/":
            self.options.stale = False
            self.hidden = path
            raise refusal(errno.ESTALE)

    def mknod(self, path, mode, device):
        real = self.real(path)
        os.mknod(real, mode, device)
        self.made(real)

    def symlink(self, path, text):
        real = self.real(path)
        os.symlink(text.encode(BYTES), real)
        self.made(real)

    def link(self, path, of):
        os.link(self.real(of), self.real(path), follow_symlinks=False)

    def unlink(self, path):
        os.unlink(self.real(path))

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def rename(self, old, new):
        one, other = self.real(old), self.real(new)
        if one == other and old != new:
            # Another spelling of its own name.
            other = os.path.dirname(other) + b"/" + os.path.basename(new.encode(BYTES))
        os.rename(one, other)
        if self.options.cuts:
            about = os.lstat(other)
            whole = tuple(at - at % SECOND for at in (about.st_atime_ns, about.st_mtime_ns))
            os.utime(other, ns=whole, follow_symlinks=False)

    # Attributes.

    def chmod(self, path, mode):
        real = self.real(path)
        if os.path.islink(real):
            raise refusal(errno.EOPNOTSUPP)
        os.chmod(real, mode)

    def chown(self, path, user, group):
        os.lchown(self.real(path), user, group)

    def utimens(self, path, times):
        real = self.real(path)
        about = os.lstat(real)
        kept = []
        for (seconds, nanoseconds), old in zip(times, (about.st_atime_ns, about.st_mtime_ns)):
            if nanoseconds == UTIME_OMIT:
                kept.append(old)
            elif nanoseconds == UTIME_NOW:
                kept.append(self.kept(time.time_ns()))
            else:
                kept.append(self.kept(seconds * SECOND + nanoseconds))
        os.utime(real, ns=tuple(kept), follow_symlinks=False)

    def setxattr(self, path, name, value, flags):
        os.setxattr(self.real(path), name.encode(BYTES), value, flags, follow_symlinks=False)

    def getxattr(self, path, name):
        return os.getxattr(self.real(path), name.encode(BYTES), follow_symlinks=False)

    def listxattr(self, path):
        return [os.fsencode(name).decode(BYTES) for name in os.listxattr(self.real(path), follow_symlinks=False)]

    def removexattr(self, path, name):
        os.removexattr(self.real(path), name.encode(BYTES), follow_symlinks=False)

    # Bytes.

    def opened(self, path, info, mode=None):
        # The kernel appends and aligns; here are offsets.
        flags = info.flags & ~(os.O_APPEND | os.O_DIRECT | os.O_TRUNC)
        real = self.real(path)
        if mode is None:
            info.fh = os.open(real, flags | os.O_NOFOLLOW)
        else:
            info.fh = os.open(real, flags | os.O_CREAT | os.O_NOFOLLOW, mode)
            self.made(real)
        options = self.options
        # Through the page cache a short read is now the end of the file, now zeros up to its stated size.
        lies = options.larger or options.smaller or options.short
        info.direct_io = options.direct or (lies and self.meant(path))
        return 0

    def open(self, path, info):
        return self.opened(path, info)

    def create(self, path, mode, info):
        return self.opened(path, info, mode)

    def read(self, path, size, offset, info):
        options = self.options
        if self.meant(path):
            if options.hang:
                say("hangs")
            while options.hang and not (options.until and os.path.exists(options.until)):
                time.sleep(0.02)
            if options.short:
                end = os.fstat(info.fh).st_size - options.short
                size = max(0, min(size, end - offset))
        return os.pread(info.fh, size, offset)

    def write(self, _path, data, offset, info):
        return os.pwrite(info.fh, data, offset)

    def truncate(self, path, length, info=None):
        if info:
            os.ftruncate(info.fh, length)
        else:
            os.truncate(self.real(path), length)

    def flush(self, _path, _info):
        return 0

    def fsync(self, _path, datasync, info):
        (os.fdatasync if datasync else os.fsync)(info.fh)

    def release(self, _path, info):
        os.close(info.fh)

    # Life.

    def init(self, _path):
        say("ready")

    def destroy(self, _path):
        pass


def unmount_at_the_end(point):
    """When standard input ends: the one who asked for the mount is done with it, or dead."""
    while os.read(0, 1):
        pass
    ctypes.CDLL(None).umount2(point, MNT_DETACH)
    # The connection ends with the process, and so does whatever waits for an answer.
    os._exit(0)


def main(arguments):
    """Serves; answers why it could not, if it could not."""
    if len(arguments) not in (2, 4) or arguments[2:3] not in ([], ["-o"]):
        raise Bad("usage: faultfs.py SOURCE MOUNTPOINT [-o OPTION,OPTION…]")
    source, point = map(os.fsencode, arguments[:2])
    options = Options(arguments[3] if arguments[3:] else "")
    try:
        # It is loaded only now: it fails where there is no libfuse.
        import fusepy

        os.close(os.open("/dev/fuse", os.O_RDWR))
    except (ImportError, OSError) as error:
        return str(error)

    class Fuse(fusepy.FUSE):
        def utimens(self, path, buf):
            # fusepy adds seconds and nanoseconds up, and with them the marks for now and for never.
            times = [(t.tv_sec, t.tv_nsec) for t in (buf.contents.actime, buf.contents.modtime)]
            return self.operations("utimens", path.decode(self.encoding), times)

    os.umask(0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    view = View(source, options, fusepy.fuse_get_context)
    threading.Thread(target=unmount_at_the_end, args=(point,), daemon=True).start()
    try:
        Fuse(
            view,
            point.decode(BYTES),
            raw_fi=True,
            encoding=BYTES,
            foreground=True,
            fsname="faultfs",
            subtype="faultfs",
            allow_other=True,
            default_permissions=True,
            use_ino=True,
            hard_remove=True,
            dev=True,
            suid=True,
            big_writes=True,
            # What it shows is asked for each time: SOURCE may change by itself.
            attr_timeout=0,
            entry_timeout=0,
            negative_timeout=0,
        )
    except RuntimeError as error:
        return f"it cannot be mounted here ({error})"
    return None


if __name__ == "__main__":
    try:
        why_not = main(sys.argv[1:])
    except Bad as bad:
        print(f"faultfs: {bad}", file=sys.stderr)
        sys.exit(2)
    if why_not is not None:
        print(f"faultfs: {why_not}")
        sys.exit(1)
