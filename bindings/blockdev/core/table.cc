#include "table.hh"

#include <libfdisk/libfdisk.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cctype>
#include <cstring>
#include <memory>

#include "descriptor.hh"

namespace blockdev {
namespace {

struct Free {
  void operator()(fdisk_context* context) const {
    // Of a device that it could not open it has the name, and asserts that it has more.
    if (fdisk_get_devfd(context) >= 0) fdisk_deassign_device(context, 1);
    fdisk_unref_context(context);
  }
  void operator()(fdisk_script* script) const { fdisk_unref_script(script); }
  void operator()(fdisk_table* table) const { fdisk_unref_table(table); }
  void operator()(fdisk_partition* partition) const { fdisk_unref_partition(partition); }
  void operator()(fdisk_parttype* type) const { fdisk_unref_parttype(type); }
  void operator()(char* text) const { free(text); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// The library answers with a negative errno.
void check(int result, const char* operation) {
  if (result < 0) throw Error(operation, -result);
  if (result > 0) throw Error(operation, EINVAL);
}

std::string upper(const char* text) {
  std::string all = text ? text : "";
  std::transform(all.begin(), all.end(), all.begin(), [](unsigned char c) { return std::toupper(c); });
  return all;
}

Owned<fdisk_context> open_context(const std::string& path, bool read_only, uint64_t sector_size) {
  Owned<fdisk_context> context(fdisk_new_context());
  if (!context) throw Error("partition table", ENOMEM);
  // The library's own warnings are for a terminal.
  fdisk_disable_dialogs(context.get(), 1);
  if (sector_size != 0) {
    check(fdisk_save_user_sector_size(context.get(), 0, static_cast<unsigned>(sector_size)), "sector size");
  }
  check(fdisk_assign_device(context.get(), path.c_str(), read_only ? 1 : 0), "open partition table");
  return context;
}

// Gives the disk its id. The call that takes it as a text came with util-linux 2.36; older ones ask for it.
int answer_id(fdisk_context*, fdisk_ask* ask, void* id) {
  switch (fdisk_ask_get_type(ask)) {
    case FDISK_ASKTYPE_STRING:
      // The library frees it.
      return fdisk_ask_string_set_result(ask, strdup(static_cast<const char*>(id)));
    case FDISK_ASKTYPE_INFO:
      return 0;
    default:
      return -EINVAL;
  }
}

void set_id(fdisk_context* context, std::string id) {
  check(fdisk_set_ask(context, answer_id, id.data()), "set the id of the disk");
  fdisk_disable_dialogs(context, 0);
  const int result = fdisk_set_disklabel_id(context);
  fdisk_disable_dialogs(context, 1);
  fdisk_set_ask(context, nullptr, nullptr);
  check(result, "set the id of the disk");
}

uint64_t attributes_of(fdisk_context* context, const std::string& label, fdisk_partition* partition) {
  uint64_t bits = 0;
  if (label == "gpt") {
    check(fdisk_gpt_get_partition_attrs(context, fdisk_partition_get_partno(partition), &bits), "read attributes");
    return bits;
  }
  return fdisk_partition_is_bootable(partition) ? 0x80 : 0;
}

}  // namespace

std::optional<Table> read_table(const std::string& path, uint64_t sector_size) {
  auto context = open_context(path, true, sector_size);
  if (!fdisk_has_label(context.get())) return std::nullopt;
  Table found;
  fdisk_label* label = fdisk_get_label(context.get(), nullptr);
  found.label = fdisk_label_get_name(label);
  if (found.label != "gpt" && found.label != "dos") {
    throw Error("partition table", ENOTSUP, "a table of the kind " + found.label + " can't be read");
  }
  found.sector_size = fdisk_get_sector_size(context.get());
  found.first = fdisk_get_first_lba(context.get()) * found.sector_size;
  found.end = (fdisk_get_last_lba(context.get()) + 1) * found.sector_size;
  if (found.label == "gpt") found.entries = fdisk_get_npartitions(context.get());
  char* id = nullptr;
  check(fdisk_get_disklabel_id(context.get(), &id), "read the id of the disk");
  Owned<char> owned(id);
  found.id = found.label == "gpt" ? upper(id) : std::string(id ? id : "");
  fdisk_table* raw = nullptr;
  check(fdisk_get_partitions(context.get(), &raw), "read partitions");
  Owned<fdisk_table> table(raw);
  for (size_t index = 0; index < fdisk_table_get_nents(raw); ++index) {
    fdisk_partition* each = fdisk_table_get_partition(raw, index);
    Partition partition;
    partition.number = fdisk_partition_get_partno(each) + 1;
    partition.start = fdisk_partition_get_start(each) * found.sector_size;
    partition.size = fdisk_partition_get_size(each) * found.sector_size;
    fdisk_parttype* type = fdisk_partition_get_type(each);
    if (found.label == "gpt") {
      partition.type = upper(fdisk_parttype_get_string(type));
    } else {
      char code[16];
      std::snprintf(code, sizeof code, "%x", fdisk_parttype_get_code(type));
      partition.type = code;
    }
    partition.uuid = found.label == "gpt" ? upper(fdisk_partition_get_uuid(each)) : "";
    const char* name = fdisk_partition_get_name(each);
    partition.name = name ? name : "";
    partition.attributes = attributes_of(context.get(), found.label, each);
    partition.container = fdisk_partition_is_container(each) == 1;
    found.partitions.push_back(std::move(partition));
  }
  std::sort(found.partitions.begin(), found.partitions.end(),
            [](const Partition& one, const Partition& other) { return one.number < other.number; });
  return found;
}

void write_table(const std::string& path, const Table& table) {
  const bool gpt = table.label == "gpt";
  if (!gpt && table.label != "dos") throw Error("partition table", EINVAL, "no kind of table: " + table.label);
  auto context = open_context(path, false, table.sector_size);
  const uint64_t sector = fdisk_get_sector_size(context.get());
  if (table.sector_size != sector) {
    throw Error("partition table", EINVAL,
                "the device has sectors of " + std::to_string(sector) + " bytes, the table of " +
                    std::to_string(table.sector_size));
  }
  // Boot code is no part of a table, and stays.
  check(fdisk_enable_bootbits_protection(context.get(), 1), "keep boot code");
  if (gpt) {
    // Where partitions may begin, and how many, is written into this kind of table: only a script can say it.
    Owned<fdisk_script> script(fdisk_new_script(context.get()));
    if (!script) throw Error("partition table", ENOMEM);
    const auto say = [&](const char* name, uint64_t value) {
      if (value != 0) check(fdisk_script_set_header(script.get(), name, std::to_string(value).c_str()), name);
    };
    say("first-lba", table.first / sector);
    say("table-length", table.entries);
    check(fdisk_set_script(context.get(), script.get()), "describe a partition table");
  }
  check(fdisk_create_disklabel(context.get(), table.label.c_str()), "make a partition table");
  if (!gpt && table.first != 0) check(fdisk_set_first_lba(context.get(), table.first / sector), "set first-lba");
  if (!table.id.empty()) set_id(context.get(), table.id);
  fdisk_label* label = fdisk_get_label(context.get(), table.label.c_str());
  for (const Partition& each : table.partitions) {
    if (each.start % sector != 0 || each.size % sector != 0 || each.size == 0) {
      throw Error("partition table", EINVAL, "partition " + std::to_string(each.number) + " is no multiple of a sector");
    }
    Owned<fdisk_partition> partition(fdisk_new_partition());
    Owned<fdisk_parttype> type(
        gpt ? fdisk_label_get_parttype_from_string(label, each.type.c_str())
            : fdisk_label_get_parttype_from_code(label, static_cast<unsigned>(std::stoul(each.type, nullptr, 16))));
    if (!type) {
      type.reset(gpt ? fdisk_new_unknown_parttype(0, each.type.c_str())
                     : fdisk_new_unknown_parttype(static_cast<unsigned>(std::stoul(each.type, nullptr, 16)), nullptr));
    }
    if (!partition || !type) throw Error("partition table", ENOMEM);
    check(fdisk_partition_set_partno(partition.get(), each.number - 1), "set the number of a partition");
    check(fdisk_partition_set_start(partition.get(), each.start / sector), "set the start of a partition");
    check(fdisk_partition_set_size(partition.get(), each.size / sector), "set the size of a partition");
    // As many sectors as were asked for, aligned or not.
    fdisk_partition_size_explicit(partition.get(), 1);
    check(fdisk_partition_set_type(partition.get(), type.get()), "set the type of a partition");
    if (gpt) {
      if (!each.uuid.empty()) check(fdisk_partition_set_uuid(partition.get(), each.uuid.c_str()), "set a GUID");
      check(fdisk_partition_set_name(partition.get(), each.name.c_str()), "set the name of a partition");
    }
    size_t number = 0;
    const int result = fdisk_add_partition(context.get(), partition.get(), &number);
    if (result < 0) {
      throw Error("add partition " + std::to_string(each.number), -result);
    }
    if (number != each.number - 1) {
      throw Error("partition table", EINVAL, "partition " + std::to_string(each.number) + " got another number");
    }
    if (gpt) {
      check(fdisk_gpt_set_partition_attrs(context.get(), number, each.attributes), "set attributes");
    } else if (each.attributes & 0x80) {
      check(fdisk_toggle_partition_flag(context.get(), number, DOS_FLAG_ACTIVE), "set the active flag");
    }
  }
  check(fdisk_write_disklabel(context.get()), "write partition table");
  fdisk_deassign_device(context.get(), 0);
}

bool reread_table(int fd) {
  if (ioctl(fd, BLKRRPART) == 0) return true;
  // A file, or a device that is not scanned for partitions.
  if (errno == ENOTTY || errno == EINVAL) return false;
  throw Error("read the partition table again", errno);
}

}  // namespace blockdev
