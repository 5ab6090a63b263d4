#include "probe.hh"

#include <blkid/blkid.h>

#include <memory>

#include "descriptor.hh"

namespace blockdev {
namespace {

struct Free {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, Free>;

std::string value(const Probe& probe, const char* name) {
  const char* data = nullptr;
  return blkid_probe_lookup_value(probe.get(), name, &data, nullptr) == 0 ? data : "";
}

}  // namespace

std::optional<Signature> probe(int fd, uint64_t offset, uint64_t size) {
  Probe probe(blkid_new_probe());
  if (!probe) throw Error("probe", ENOMEM);
  errno = 0;
  if (blkid_probe_set_device(probe.get(), fd, static_cast<blkid_loff_t>(offset), static_cast<blkid_loff_t>(size)) != 0) {
    throw Error("probe", errno != 0 ? errno : EINVAL);
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE |
                                                     BLKID_SUBLKS_USAGE | BLKID_SUBLKS_VERSION | BLKID_SUBLKS_MAGIC);
  blkid_probe_enable_partitions(probe.get(), 1);
  errno = 0;
  switch (blkid_do_safeprobe(probe.get())) {
    case 0:
      break;
    case 1:
      return std::nullopt;
    case -2:
      throw Error("probe", EUCLEAN, "two signatures contradict each other");
    default:
      throw Error("probe", errno != 0 ? errno : EIO);
  }
  Signature found;
  found.usage = value(probe, "USAGE");
  found.type = value(probe, "TYPE");
  found.version = value(probe, "VERSION");
  found.label = value(probe, "LABEL");
  found.uuid = value(probe, "UUID");
  found.table = value(probe, "PTTYPE");
  const std::string block_size = value(probe, "BLOCK_SIZE");
  if (!block_size.empty()) found.block_size = std::stoull(block_size);
  if (found.type.empty() && found.table.empty()) return std::nullopt;
  return found;
}

}  // namespace blockdev
