// What lies in a range of bytes: a file system, swap, a container, a partition table; by libblkid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace blockdev {

struct Signature {
  // `filesystem`, `raid`, `crypto` or `other`; empty where there is a partition table only.
  std::string usage;
  // As mount(8) names it: `ext4`, `xfs`, `vfat`, `swap`, `crypto_LUKS`.
  std::string type;
  std::string version;
  std::string label;
  std::string uuid;
  // Bytes; 0: it does not say.
  uint64_t block_size = 0;
  // `gpt` or `dos`; empty: there is no partition table.
  std::string table;
};

// Looks at `size` bytes from `offset` on (0: to the end) of an open file or device. Nothing: there is no signature.
// Throws Error, with EUCLEAN where two signatures contradict each other.
std::optional<Signature> probe(int fd, uint64_t offset, uint64_t size);

}  // namespace blockdev
