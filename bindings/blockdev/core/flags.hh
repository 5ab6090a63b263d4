// Flags of inodes (chattr(1)), carried from one tree to another that has the same files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace blockdev {

// What became of the flags of one directory, of what it holds, and where to go on.
struct Carried {
  // Directories in it, by their names.
  std::vector<std::string> directories;
  // Entries whose flags are carried; those with some that the other tree did not take, by name. `.`: itself.
  uint64_t kept = 0;
  std::vector<std::string> lost;
};

// Carries those of the directory that is at `path` below both roots, and of the files in it; what the other tree does not
// have is passed over. Throws Error.
Carried carry_flags(int from, int to, const std::string& path);

}  // namespace blockdev
