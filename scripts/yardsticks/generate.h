/*
 * What the generators share: a reproducible stream of incompressible words, numbers from the command line, and files
 * made from the stream. The same arguments always make the same tree, names, contents and times included.
 */
#ifndef GENERATE_H
#define GENERATE_H

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* xorshift64: fast, and no compressor finds anything in it. A state of 0 would stay 0. */
static inline uint64_t next_word(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* A state of its own for the file of a number, well mixed although the numbers are small. */
static inline uint64_t stream_of(uint64_t number) {
  uint64_t state = (number + 1) * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < 4; i++) next_word(&state);
  return state;
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

/* A number of at least `least`; anything else ends the program. */
static inline long number(const char *text, long least) {
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < least) {
    fprintf(stderr, "%s: not a number of at least %ld\n", text, least);
    exit(2);
  }
  return value;
}

static inline void make_directory(int parent, const char *name) {
  if (mkdirat(parent, name, 0755) != 0) die(name);
}

/* All of it, or the end of the program. */
static inline void write_all(int file, const char *bytes, size_t left) {
  while (left > 0) {
    ssize_t written = write(file, bytes, left);
    if (written <= 0) die("write");
    bytes += written;
    left -= (size_t)written;
  }
}

/*
 * Makes a file of 0 to `most` bytes, the size and the content being those of its number. `buffer` has room for `most`
 * bytes and one more word. The times are in the past and have nanoseconds, so that a tool that loses them is seen.
 * Returns the size.
 */
static inline long make_file(int parent, const char *name, uint64_t file_number, long most, uint64_t *buffer) {
  uint64_t state = stream_of(file_number);
  long size = (long)(next_word(&state) % (uint64_t)(most + 1));
  for (long word = 0; word * 8 < size; word++) buffer[word] = next_word(&state);

  int file = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (file < 0) die(name);
  write_all(file, (const char *)buffer, (size_t)size);
  struct timespec times[2] = {
      {.tv_sec = 1700000000 + (time_t)(file_number % 1000000), .tv_nsec = 123},
      {.tv_sec = 1600000000 + (time_t)(file_number % 1000000), .tv_nsec = 456789},
  };
  if (futimens(file, times) != 0 || close(file) != 0) die(name);
  return size;
}

static inline uint64_t *buffer_for(long most) {
  uint64_t *buffer = malloc((size_t)most + sizeof(uint64_t));
  if (buffer == NULL) die("malloc");
  return buffer;
}

#endif
