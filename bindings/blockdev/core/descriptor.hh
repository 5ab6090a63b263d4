// A file descriptor that is closed, and an error of the system with what was being done.
#pragma once

#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace blockdev {

// Owns a descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  // Whoever takes it closes it.
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// What went wrong: `what()` is `OPERATION: cause`, `number()` an errno.
class Error : public std::runtime_error {
 public:
  Error(const std::string& operation, int number)
      : std::runtime_error(operation + ": " + std::strerror(number)), number_(number) {}
  Error(const std::string& operation, int number, const std::string& cause)
      : std::runtime_error(operation + ": " + cause), number_(number) {}
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace blockdev
