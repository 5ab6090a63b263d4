#include "loop.hh"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <cerrno>

namespace blockdev {
namespace {

// Somebody else may take the device that was free a moment ago.
constexpr int ATTEMPTS = 64;

// Gives a device its file, at once where the kernel can (5.8); else in steps: whoever dies between the first two leaves it
// attached.
bool configure(int device, const loop_config& config) {
  if (ioctl(device, LOOP_CONFIGURE, &config) == 0) return true;
  if (errno != EINVAL && errno != ENOTTY) return false;
  if (ioctl(device, LOOP_SET_FD, config.fd) != 0) return false;
  const bool direct = (config.info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;
  if (ioctl(device, LOOP_SET_STATUS64, &config.info) == 0 &&
      (config.block_size == 0 || ioctl(device, LOOP_SET_BLOCK_SIZE, static_cast<unsigned long>(config.block_size)) == 0)) {
    // Where it can't be had, reads come from the cache.
    if (direct) ioctl(device, LOOP_SET_DIRECT_IO, 1UL);
    return true;
  }
  const int why = errno;
  ioctl(device, LOOP_CLR_FD);
  errno = why;
  return false;
}

}  // namespace

Loop attach(int file, bool read_only, uint64_t offset, uint64_t size, uint32_t sector_size, bool direct) {
  Descriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) throw Error("open /dev/loop-control", errno);
  for (int attempt = 0; attempt < ATTEMPTS; ++attempt) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) throw Error("find a free loop device", errno);
    Loop loop;
    loop.path = "/dev/loop" + std::to_string(number);
    loop.fd = Descriptor(open(loop.path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    // Somebody else may be about to remove it.
    if (!loop.fd && (errno == ENXIO || errno == ENOENT)) continue;
    if (!loop.fd) throw Error("open " + loop.path, errno);
    loop_config config{};
    config.fd = static_cast<__u32>(file);
    config.block_size = sector_size;
    config.info.lo_offset = offset;
    config.info.lo_sizelimit = size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0) | (direct ? LO_FLAGS_DIRECT_IO : 0);
    if (configure(loop.fd.get(), config)) {
      // What the file system does not take the kernel leaves out without a word.
      loop_info64 info{};
      loop.direct = ioctl(loop.fd.get(), LOOP_GET_STATUS64, &info) == 0 && (info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;
      return loop;
    }
    if (errno != EBUSY) throw Error("attach " + loop.path, errno);
  }
  throw Error("attach a loop device", EBUSY);
}

}  // namespace blockdev
