// Tests of the core, without Node. Prints a line for each, and ends with `N passed, N failed, N skipped`.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>

#include "descriptor.hh"
#include "flags.hh"
#include "loop.hh"
#include "mount.hh"
#include "probe.hh"
#include "table.hh"

using namespace blockdev;

namespace {

struct Skip {
  std::string why;
};

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}
#define EXPECT(condition) expect(bool(condition), #condition)

std::string scratch;

std::string image(const std::string& name, off_t size) {
  const std::string path = scratch + "/" + name;
  Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file || ftruncate(file.get(), size) != 0) throw Error("make " + path, errno);
  return path;
}

Descriptor opened(const std::string& path, int how = O_RDWR) { return Descriptor(open(path.c_str(), how | O_CLOEXEC)); }

// Runs a program of the system; its words have no blanks in them.
void must(const std::string& command) {
  const int result = std::system((command + " >/dev/null 2>&1").c_str());
  if (result == 127 << 8) throw Skip{"there is no " + command.substr(0, command.find(' '))};
  if (result != 0) throw std::runtime_error("failed: " + command);
}

Table table_of_two(const char* label) {
  Table table;
  table.label = label;
  table.sector_size = 512;
  const bool gpt = table.label == "gpt";
  table.id = gpt ? "0FC63DAF-8483-4772-8E79-3D69D8477DE4" : "0x1234abcd";
  Partition one, two;
  one.number = 1;
  one.start = 1 << 20;
  one.size = 3 << 20;
  one.type = gpt ? "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" : "c";
  two.number = 3;
  two.start = (5 << 20) + 512;
  two.size = (7 << 20) + 1536;
  two.type = gpt ? "0FC63DAF-8483-4772-8E79-3D69D8477DE4" : "83";
  two.attributes = gpt ? 0x8000000000000004 : 0x80;
  if (gpt) {
    one.uuid = "11111111-2222-3333-4444-555555555555";
    one.name = "boot \xc3\xa9 ";
    two.uuid = "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE";
  }
  table.partitions = {one, two};
  return table;
}

bool same(const Partition& a, const Partition& b) {
  return a.number == b.number && a.start == b.start && a.size == b.size && a.type == b.type && a.uuid == b.uuid &&
         a.name == b.name && a.attributes == b.attributes;
}

void a_table_is_read_as_it_was_written() {
  for (const char* label : {"gpt", "dos"}) {
    const std::string path = image("table", 32 << 20);
    const Table table = table_of_two(label);
    write_table(path, table);
    const auto read = read_table(path, 0);
    EXPECT(read && read->label == label && read->id == table.id && read->sector_size == 512);
    EXPECT(read->partitions.size() == 2);
    for (size_t index = 0; index < 2; ++index) EXPECT(same(read->partitions[index], table.partitions[index]));
    EXPECT(probe(opened(path).get(), 0, 0)->table == label);
  }
}

void partitions_may_begin_before_the_first_mebibyte_and_be_logical() {
  for (const char* label : {"gpt", "dos"}) {
    const std::string path = image("early", 32 << 20);
    Table table = table_of_two(label);
    const bool gpt = table.label == "gpt";
    table.first = (gpt ? 34 : 1) * 512;
    table.partitions[0].start = table.first;
    table.partitions[0].size = (1 << 20) - table.first;
    if (!gpt) {
      Partition container = table.partitions[1], logical = container;
      container.number = 2;
      container.type = "5";
      container.attributes = 0;
      logical.number = 5;
      logical.start += 512;
      logical.size -= 1024;
      table.partitions = {table.partitions[0], container, logical};
    }
    write_table(path, table);
    const auto read = read_table(path, 0);
    EXPECT(read && read->partitions.size() == table.partitions.size());
    for (size_t index = 0; index < table.partitions.size(); ++index) {
      EXPECT(same(read->partitions[index], table.partitions[index]));
    }
    if (gpt) EXPECT(read->first == table.first);
    EXPECT(!reread_table(opened(path).get()));
  }
}

void a_table_that_does_not_fit_leaves_what_was_there() {
  const std::string path = image("small", 32 << 20);
  write_table(path, table_of_two("gpt"));
  Table larger = table_of_two("gpt");
  larger.partitions[1].size = 64 << 20;
  bool refused = false;
  try {
    write_table(path, larger);
  } catch (const Error&) {
    refused = true;
  }
  EXPECT(refused);
  EXPECT(read_table(path, 0)->partitions[1].size == (7 << 20) + 1536);
}

void what_is_blank_has_no_table_and_no_signature() {
  const std::string path = image("blank", 4 << 20);
  EXPECT(!read_table(path, 0));
  EXPECT(!probe(opened(path).get(), 0, 0));
}

void a_file_system_is_seen_at_its_offset() {
  const std::string whole = image("whole", 16 << 20), part = image("part", 8 << 20);
  must("mkfs.ext4 -q -F -L label -U 01234567-89ab-cdef-0123-456789abcdef " + part);
  must("dd if=" + part + " of=" + whole + " bs=1M seek=4 conv=notrunc");
  const auto file = opened(whole, O_RDONLY);
  const auto found = probe(file.get(), 4 << 20, 8 << 20);
  EXPECT(found && found->type == "ext4" && found->label == "label" && found->usage == "filesystem");
  EXPECT(found->uuid == "01234567-89ab-cdef-0123-456789abcdef");
  EXPECT(!probe(file.get(), 0, 4 << 20));
}

// Runs a test where the kernel knows none of the calls that came with 5.2 and 5.8, by a filter that its process can't lose.
void before_5_2(const std::function<void()>& body) {
  const pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    const sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsopen, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open_tree, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LOOP_CONFIGURE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {sizeof filter / sizeof *filter, const_cast<sock_filter*>(filter)};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(3);
    try {
      EXPECT(syscall(SYS_fsopen, "ext4", 0) == -1 && errno == ENOSYS);
      body();
      _exit(0);
    } catch (const Skip&) {
      _exit(4);
    } catch (const std::exception& error) {
      std::cout << error.what() << std::endl;
      _exit(1);
    }
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
  if (WEXITSTATUS(status) == 3) throw Skip{"this kernel filters no calls"};
  if (WEXITSTATUS(status) == 4) throw Skip{"this needs root and loop devices"};
  EXPECT(WEXITSTATUS(status) == 0);
}

void a_mount_is_a_descriptor_and_goes_with_it() {
  if (getuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0) throw Skip{"this needs root and loop devices"};
  const std::string path = image("mounted", 16 << 20);
  must("mkfs.ext4 -q -F " + path);
  std::string device;
  {
    const auto file = opened(path);
    Loop loop = attach(file.get(), false, 0, 0, 0, false);
    device = loop.path;
    Descriptor root = mount_detached(loop.path, "ext4", false, {{"errors", "remount-ro"}});
    Descriptor made(openat(root.get(), "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    EXPECT(made);
    EXPECT(write(made.get(), "x", 1) == 1);
    for (const Mounted& mounted : mounts()) EXPECT(mounted.source != device);
  }
  // Nothing is left of it, and what was written is there.
  const auto file = opened(path, O_RDONLY);
  Loop loop = attach(file.get(), true, 0, 0, 0, false);
  Descriptor root = mount_detached(loop.path, "ext4", true, {});
  struct stat stat {};
  EXPECT(fstatat(root.get(), "f", &stat, 0) == 0 && stat.st_size == 1);
}

void a_mount_of_an_older_kernel_goes_with_it_too() { before_5_2(a_mount_is_a_descriptor_and_goes_with_it); }

void a_mount_is_seen_without_what_hides_a_part_of_it() {
  if (getuid() != 0) throw Skip{"this needs root"};
  // Of no other process.
  EXPECT(unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  const std::string path = scratch + "/tree";
  EXPECT(mkdir(path.c_str(), 0700) == 0 && mount("none", path.c_str(), "tmpfs", 0, nullptr) == 0);
  EXPECT(mkdir((path + "/d").c_str(), 0700) == 0 && mkdir((path + "/d/hidden").c_str(), 0700) == 0);
  EXPECT(mount("none", (path + "/d").c_str(), "tmpfs", 0, nullptr) == 0);
  EXPECT(access((path + "/d/hidden").c_str(), F_OK) != 0);
  const Descriptor root = clone_mount(path);
  EXPECT(faccessat(root.get(), "d/hidden", F_OK, 0) == 0);
  EXPECT(umount2(path.c_str(), MNT_DETACH) == 0);
}

void the_same_of_an_older_kernel() {
  before_5_2([] {
    scratch += "/older";
    EXPECT(mkdir(scratch.c_str(), 0700) == 0);
    a_mount_is_seen_without_what_hides_a_part_of_it();
  });
}

void a_loop_device_is_a_range_with_its_sectors() {
  if (getuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0) throw Skip{"this needs root and loop devices"};
  const auto file = opened(image("range", 8 << 20));
  EXPECT(pwrite(file.get(), "here", 4, 1 << 20) == 4);
  const Loop loop = attach(file.get(), true, 1 << 20, 2 << 20, 4096, true);
  uint64_t size = 0;
  int sector = 0;
  EXPECT(ioctl(loop.fd.get(), BLKGETSIZE64, &size) == 0 && size == 2 << 20);
  EXPECT(ioctl(loop.fd.get(), BLKSSZGET, &sector) == 0 && sector == 4096);
  char found[4];
  EXPECT(pread(loop.fd.get(), found, 4, 0) == 4 && std::string(found, 4) == "here");
}

void a_loop_device_of_an_older_kernel_is_one_too() { before_5_2(a_loop_device_is_a_range_with_its_sectors); }

void flags_are_carried_directory_by_directory() {
  if (getuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0) throw Skip{"this needs root and loop devices"};
  std::vector<Descriptor> roots;
  for (const char* name : {"flags-from", "flags-to"}) {
    const std::string path = image(name, 8 << 20);
    must("mkfs.ext4 -q -F " + path);
    const auto file = opened(path);
    const Loop loop = attach(file.get(), false, 0, 0, 0, false);
    roots.push_back(mount_detached(loop.path, "ext4", false, {}));
    EXPECT(mkdirat(roots.back().get(), "d", 0700) == 0);
    for (const char* each : {"d/f", "plain"}) {
      EXPECT(Descriptor(openat(roots.back().get(), each, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
    }
  }
  const int from = roots[0].get(), to = roots[1].get();
  EXPECT(Descriptor(openat(from, "d/elsewhere", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
  const auto flags = [](int root, const char* name) {
    const Descriptor file(openat(root, name, O_RDONLY | O_CLOEXEC));
    long found = 0;
    EXPECT(ioctl(file.get(), FS_IOC_GETFLAGS, &found) == 0);
    return found;
  };
  const auto add = [&](const char* name, long more) {
    const Descriptor file(openat(from, name, O_RDONLY | O_CLOEXEC));
    long all = flags(from, name) | more;
    EXPECT(ioctl(file.get(), FS_IOC_SETFLAGS, &all) == 0);
  };
  add("d/f", FS_IMMUTABLE_FL | FS_NODUMP_FL);
  add("d/elsewhere", FS_IMMUTABLE_FL);
  add("d", FS_NOATIME_FL | FS_APPEND_FL);
  Carried carried = carry_flags(from, to, "");
  std::sort(carried.directories.begin(), carried.directories.end());
  EXPECT(carried.kept == 0 && carried.lost.empty());
  EXPECT((carried.directories == std::vector<std::string>{"d", "lost+found"}));
  carried = carry_flags(from, to, "d");
  EXPECT(carried.kept == 2 && carried.lost.empty() && carried.directories.empty());
  for (const char* name : {"d", "d/f", "plain"}) EXPECT(flags(to, name) == flags(from, name));
  EXPECT(carry_flags(from, to, "d").kept == 2);
  EXPECT(carry_flags(from, to, "absent").kept == 0);
}

void what_is_no_file_system_says_why() {
  if (getuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0) throw Skip{"this needs root and loop devices"};
  const std::string path = image("none", 4 << 20);
  const auto file = opened(path);
  Loop loop = attach(file.get(), true, 0, 0, 0, false);
  try {
    mount_detached(loop.path, "ext4", true, {});
  } catch (const Error& error) {
    EXPECT(error.number() == EINVAL);
    EXPECT(std::string(error.what()).find("mount " + loop.path) == 0);
    return;
  }
  EXPECT(false);
}

}  // namespace

int main() {
  char name[] = "/tmp/bulkhaul-test-XXXXXX";
  if (!mkdtemp(name)) return 2;
  scratch = name;
  const std::pair<const char*, std::function<void()>> tests[] = {
      {"a table is read as it was written", a_table_is_read_as_it_was_written},
      {"partitions may begin before the first mebibyte, and be logical",
       partitions_may_begin_before_the_first_mebibyte_and_be_logical},
      {"a table that does not fit leaves what was there", a_table_that_does_not_fit_leaves_what_was_there},
      {"what is blank has no table and no signature", what_is_blank_has_no_table_and_no_signature},
      {"a file system is seen at its offset", a_file_system_is_seen_at_its_offset},
      {"a mount is a descriptor and goes with it", a_mount_is_a_descriptor_and_goes_with_it},
      {"a mount of an older kernel goes with it, too", a_mount_of_an_older_kernel_goes_with_it_too},
      {"flags are carried directory by directory", flags_are_carried_directory_by_directory},
      {"a loop device is a range with its sectors", a_loop_device_is_a_range_with_its_sectors},
      {"a loop device of an older kernel is one, too", a_loop_device_of_an_older_kernel_is_one_too},
      {"a mount is seen without what hides a part of it, of an older kernel, too", the_same_of_an_older_kernel},
      {"a mount is seen without what hides a part of it", a_mount_is_seen_without_what_hides_a_part_of_it},
      {"what is no file system says why", what_is_no_file_system_says_why},
  };
  int passed = 0, failed = 0, skipped = 0;
  for (const auto& [what, body] : tests) {
    try {
      body();
      std::cout << "ok: " << what << "\n";
      ++passed;
    } catch (const Skip& skip) {
      std::cout << "skip: " << what << ": " << skip.why << "\n";
      ++skipped;
    } catch (const std::exception& error) {
      std::cout << "FAILED: " << what << ": " << error.what() << "\n";
      ++failed;
    }
  }
  std::cout << passed << " passed, " << failed << " failed, " << skipped << " skipped\n";
  if (std::system(("rm -r " + scratch).c_str()) != 0) ++failed;
  return failed == 0 ? 0 : 1;
}
