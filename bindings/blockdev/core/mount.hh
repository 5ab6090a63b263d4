// Mounts without a place in the tree: a descriptor is all that there is of one, and when it is closed, also by death, the
// file system is unmounted. And who else has a device mounted, as all mounts of this namespace tell.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "descriptor.hh"

namespace blockdev {

// Options of a file system: a name with a value, or with none.
using Options = std::vector<std::pair<std::string, std::string>>;

// The root of the file system on a device, as a directory. Throws Error; its cause is what the kernel says of it, where it is
// 5.2 or newer.
Descriptor mount_detached(const std::string& device, const std::string& type, bool read_only, const Options& options);

// A mounted tree without what is mounted below it, as a directory. Throws Error.
Descriptor clone_mount(const std::string& path);

struct Mounted {
  std::string source;
  std::string target;
  // What of the file system is mounted there: `/` is all of it.
  std::string root;
  std::string type;
  std::string options;
  unsigned major = 0;
  unsigned minor = 0;
};

// All mounts of this namespace. Throws Error.
std::vector<Mounted> mounts();

}  // namespace blockdev
