// Loop devices that clear themselves: when the last descriptor and the last mount of one are gone, so is it, also after
// kill -9.
#pragma once

#include <cstdint>
#include <string>

#include "descriptor.hh"

namespace blockdev {

struct Loop {
  Descriptor fd;
  std::string path;
  // It reads and writes the medium past the cache of the file.
  bool direct = false;
};

// Attaches `size` bytes from `offset` on (0: to the end) of an open file. `sector_size` 0: 512 bytes. `direct`: past the
// cache of the file, where its file system takes that. Throws Error.
Loop attach(int file, bool read_only, uint64_t offset, uint64_t size, uint32_t sector_size, bool direct);

}  // namespace blockdev
