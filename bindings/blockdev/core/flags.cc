#include "flags.hh"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "descriptor.hh"

namespace blockdev {
namespace {

// What somebody sets; all others say how a file system keeps the inode.
constexpr unsigned WANTED = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_DIRSYNC_FL |
                            FS_TOPDIR_FL | FS_JOURNAL_DATA_FL | FS_NOCOW_FL | FS_SECRM_FL | FS_UNRM_FL | FS_CASEFOLD_FL;
constexpr int HOW = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

std::optional<unsigned> flags_of(int fd) {
  // The kernel writes an int, whatever the call says.
  long flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) return std::nullopt;
  return static_cast<unsigned>(flags);
}

// Opens a directory below another: name by name, because no path may be too long.
Descriptor below(int root, const std::string& path) {
  Descriptor at(openat(root, ".", HOW | O_DIRECTORY));
  for (size_t start = 0; at && start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    at = Descriptor(openat(at.get(), path.substr(start, end - start).c_str(), HOW | O_DIRECTORY));
    start = end + 1;
  }
  return at;
}

void carry(int from, int to, const char* name, Carried& carried) {
  // Links, devices and their like have none.
  const Descriptor source(openat(from, name, HOW));
  if (!source) return;
  const auto found = flags_of(source.get());
  const unsigned wanted = found.value_or(0) & WANTED;
  if (wanted == 0) return;
  const Descriptor copy(openat(to, name, HOW));
  if (!copy) return;
  const auto before = flags_of(copy.get());
  if (before && (*before & WANTED) != wanted) {
    long flags = static_cast<long>((*before & ~WANTED) | wanted);
    ioctl(copy.get(), FS_IOC_SETFLAGS, &flags);
  }
  // Some are taken without a word, and not kept.
  if ((flags_of(copy.get()).value_or(0) & WANTED) == wanted) {
    ++carried.kept;
  } else {
    carried.lost.push_back(name);
  }
}

}  // namespace

Carried carry_flags(int from, int to, const std::string& path) {
  Carried carried;
  Descriptor source = below(from, path);
  const Descriptor copy = below(to, path);
  // Gone meanwhile, or left out.
  if (!source || !copy) return carried;
  carry(source.get(), copy.get(), ".", carried);
  const int fd = source.get();
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd), closedir);
  if (!listing) throw Error("list " + path, errno);
  source.release();
  errno = 0;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string name = entry->d_name;
    auto type = entry->d_type;
    if (type == DT_UNKNOWN) {
      struct stat stat {};
      if (fstatat(fd, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0) type = IFTODT(stat.st_mode);
    }
    if (type == DT_DIR && name != "." && name != "..") carried.directories.push_back(name);
    if (type == DT_REG) carry(fd, copy.get(), name.c_str(), carried);
    errno = 0;
  }
  if (errno != 0) throw Error("list " + path, errno);
  return carried;
}

}  // namespace blockdev
