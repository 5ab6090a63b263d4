// Partition tables, read and written; by libfdisk. Sizes and places are bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace blockdev {

struct Partition {
  // As the kernel counts: from 1.
  uint64_t number = 0;
  uint64_t start = 0;
  uint64_t size = 0;
  // A GUID in upper case, or in `dos` the code: `83`.
  std::string type;
  // A GUID in upper case; empty in `dos`.
  std::string uuid;
  std::string name;
  // GPT: all 64 attribute bits. dos: bit 7 is the active flag, as in its byte.
  uint64_t attributes = 0;
  // dos: it holds the logical ones.
  bool container = false;
};

struct Table {
  // `gpt` or `dos`.
  std::string label;
  // GUID of the disk in upper case, or in `dos` its id: `0x1234abcd`.
  std::string id;
  uint64_t sector_size = 0;
  // Where partitions may lie.
  uint64_t first = 0;
  uint64_t end = 0;
  // How many partitions a table of the kind `gpt` has room for.
  uint64_t entries = 0;
  // By number.
  std::vector<Partition> partitions;
};

// The table of a file or device. Nothing: it has none. `sector_size` 0: as the device says. Throws Error.
std::optional<Table> read_table(const std::string& path, uint64_t sector_size);

// Writes a table in place of what was there: label, ids, places, names and attributes as given. `first` and `entries`
// 0: as the library has them. `end` is the library's. Boot code stays. Throws Error; then the table that was there is as it was, unless writing itself failed.
void write_table(const std::string& path, const Table& table);

// Has the kernel look at the table of an open disk again. false: it has no partitions of this device. Throws Error.
bool reread_table(int fd);

}  // namespace blockdev
