#include "mount.hh"

#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <thread>

namespace blockdev {
namespace {

// By number, so that what is built on a new system runs on an old one: there the answer is ENOSYS.
int fs_open(const char* type) { return static_cast<int>(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)); }
int fs_config(int fd, unsigned command, const char* key, const void* value) {
  return static_cast<int>(syscall(SYS_fsconfig, fd, command, key, value, 0));
}

// What the kernel has said of a context: its errors, or its warnings where there are none.
std::string said(int context) {
  std::string errors, warnings;
  char message[1024];
  ssize_t length;
  while ((length = read(context, message, sizeof message)) > 0) {
    if (length < 3) continue;
    std::string& all = message[0] == 'e' ? errors : warnings;
    std::string text(message + 2, static_cast<size_t>(length) - 2);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (!all.empty()) all += "; ";
    all += text;
  }
  return errors.empty() ? warnings : errors;
}

[[noreturn]] void fail(const std::string& operation, int context, int number) {
  const std::string why = said(context);
  if (why.empty()) throw Error(operation, number);
  throw Error(operation, number, why);
}

// A directory that every system has.
constexpr char PLACE[] = "/dev";

// The same for a kernel older than 5.2: `put` mounts at a place in a namespace that a thread has for itself, and that goes with
// the thread. What is open of a mount outlives its namespace, and is unmounted when it is closed.
Descriptor in_own_namespace(const std::string& operation, const std::function<int(const char*)>& put) {
  int root = -1;
  int number = 0;
  std::thread([&] {
    const bool there = unshare(CLONE_FS | CLONE_NEWNS) == 0 &&
                       mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 && put(PLACE) == 0;
    if (there) root = open(PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    number = errno;
  }).join();
  if (root < 0) throw Error(operation, number);
  return Descriptor(root);
}

struct Free {
  void operator()(libmnt_table* table) const { mnt_unref_table(table); }
  void operator()(libmnt_iter* iter) const { mnt_free_iter(iter); }
};

std::string text(const char* value) { return value ? value : ""; }

}  // namespace

Descriptor mount_detached(const std::string& device, const std::string& type, bool read_only, const Options& options) {
  const std::string operation = "mount " + device + " (" + type + ")";
  Descriptor context(fs_open(type.c_str()));
  if (!context && errno == ENOSYS) {
    std::string data;
    for (const auto& [name, value] : options) {
      data += (data.empty() ? "" : ",") + name + (value.empty() ? "" : "=" + value);
    }
    const unsigned long flags = read_only ? MS_RDONLY : MS_NOATIME;
    return in_own_namespace(operation, [&](const char* place) {
      return mount(device.c_str(), place, type.c_str(), flags, data.c_str());
    });
  }
  if (!context) throw Error(operation, errno);
  if (fs_config(context.get(), FSCONFIG_SET_STRING, "source", device.c_str()) != 0) fail(operation, context.get(), errno);
  if (read_only && fs_config(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr) != 0) fail(operation, context.get(), errno);
  for (const auto& [name, value] : options) {
    const bool flag = value.empty();
    const int result = flag ? fs_config(context.get(), FSCONFIG_SET_FLAG, name.c_str(), nullptr)
                            : fs_config(context.get(), FSCONFIG_SET_STRING, name.c_str(), value.c_str());
    if (result != 0) fail(operation + ", option " + name, context.get(), errno);
  }
  if (fs_config(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr) != 0) fail(operation, context.get(), errno);
  const unsigned attributes = read_only ? MOUNT_ATTR_RDONLY : MOUNT_ATTR_NOATIME;
  Descriptor root(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes)));
  if (!root) fail(operation, context.get(), errno);
  return root;
}

Descriptor clone_mount(const std::string& path) {
  Descriptor root(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!root && errno == ENOSYS) {
    return in_own_namespace("open the mount at " + path, [&](const char* place) {
      return mount(path.c_str(), place, nullptr, MS_BIND, nullptr);
    });
  }
  if (!root) throw Error("open the mount at " + path, errno);
  return root;
}

std::vector<Mounted> mounts() {
  std::unique_ptr<libmnt_table, Free> table(mnt_new_table_from_file("/proc/self/mountinfo"));
  if (!table) throw Error("read /proc/self/mountinfo", errno != 0 ? errno : EIO);
  std::unique_ptr<libmnt_iter, Free> iter(mnt_new_iter(MNT_ITER_FORWARD));
  if (!iter) throw Error("read mounts", ENOMEM);
  std::vector<Mounted> all;
  libmnt_fs* fs = nullptr;
  while (mnt_table_next_fs(table.get(), iter.get(), &fs) == 0) {
    const dev_t number = mnt_fs_get_devno(fs);
    all.push_back({text(mnt_fs_get_source(fs)), text(mnt_fs_get_target(fs)), text(mnt_fs_get_root(fs)),
                   text(mnt_fs_get_fstype(fs)), text(mnt_fs_get_options(fs)), major(number), minor(number)});
  }
  return all;
}

}  // namespace blockdev
