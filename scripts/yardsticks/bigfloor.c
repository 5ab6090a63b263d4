/*
 * bigfloor rw|copy_file_range THREADS CHUNK_MIB SOURCE TARGET [BUFFER_KIB]
 *
 * The practical lower bound for copying big files: the regular files of the directory SOURCE into the directory TARGET,
 * which is made, cut into chunks of CHUNK_MIB that the threads take one after the other, a chunk of each file in turn:
 * writers of one file wait for each other. rw moves a chunk through one buffer (256 KiB) a thread, copy_file_range
 * leaves it to the kernel. Content only.
 *
 * Prints how many files and bytes that was. Any error ends it with exit code 1.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_FILES = 1024, MOST_THREADS = 64, PAGE = 4096 };

static struct {
  int source, target;
  off_t size;
} files[MOST_FILES];
static int file_count;
static struct {
  int file;
  off_t from;
} *chunks;
static long chunk_count;
static atomic_long next_chunk;
static off_t chunk_size;
static size_t buffer_size = 256 << 10;
static bool in_kernel;

static void die(const char *what) {
  fprintf(stderr, "bigfloor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void copy_chunk(int file, off_t from, off_t end, char *buffer) {
  int source = files[file].source, target = files[file].target;
  while (from < end) {
    if (in_kernel) {
      off_t to = from;
      ssize_t moved = copy_file_range(source, &from, target, &to, (size_t)(end - from), 0);
      if (moved <= 0) die("copy_file_range");
      continue; /* the kernel has moved `from` on */
    }
    size_t wanted = (size_t)(end - from) < buffer_size ? (size_t)(end - from) : buffer_size;
    ssize_t got = pread(source, buffer, wanted, from);
    if (got <= 0 || pwrite(target, buffer, (size_t)got, from) != got) die("pread and pwrite");
    from += got;
  }
}

/* Cuts the files into chunks: the first of each file, then the second of each. */
static void cut(long long bytes) {
  chunks = malloc((size_t)(bytes / chunk_size + file_count) * sizeof *chunks);
  if (chunks == NULL) die("malloc");
  for (off_t from = 0;; from += chunk_size) {
    long before = chunk_count;
    for (int file = 0; file < file_count; file++) {
      if (from >= files[file].size) continue;
      chunks[chunk_count].file = file;
      chunks[chunk_count++].from = from;
    }
    if (chunk_count == before) return;
  }
}

/* Takes chunks until there are no more. */
static void *work(void *unused) {
  (void)unused;
  char *buffer = aligned_alloc(PAGE, buffer_size);
  if (buffer == NULL) die("aligned_alloc");
  for (;;) {
    long index = atomic_fetch_add(&next_chunk, 1);
    if (index >= chunk_count) return NULL;
    int file = chunks[index].file;
    off_t from = chunks[index].from, end = from + chunk_size;
    copy_chunk(file, from, end < files[file].size ? end : files[file].size, buffer);
  }
}

int main(int count, char **arguments) {
  in_kernel = count > 1 && strcmp(arguments[1], "copy_file_range") == 0;
  int threads = count > 2 ? atoi(arguments[2]) : 0;
  chunk_size = count > 3 ? (off_t)atol(arguments[3]) << 20 : 0;
  if (count > 6) buffer_size = (size_t)atol(arguments[6]) << 10;
  if (count < 6 || count > 7 || (!in_kernel && strcmp(arguments[1], "rw") != 0) || threads < 1 ||
      threads > MOST_THREADS || chunk_size < 1 || buffer_size < PAGE) {
    fprintf(stderr, "usage: bigfloor rw|copy_file_range THREADS CHUNK_MIB SOURCE TARGET [BUFFER_KIB]\n");
    return 2;
  }

  DIR *source = opendir(arguments[4]);
  if (source == NULL) die(arguments[4]);
  if (mkdir(arguments[5], 0755) != 0) die(arguments[5]);
  int target = open(arguments[5], O_RDONLY | O_DIRECTORY);
  if (target < 0) die(arguments[5]);
  long long bytes = 0;
  for (struct dirent *entry; (entry = readdir(source)) != NULL;) {
    struct stat status;
    if (fstatat(dirfd(source), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) die(entry->d_name);
    if (!S_ISREG(status.st_mode)) continue;
    if (file_count == MOST_FILES) {
      fprintf(stderr, "bigfloor: more than %d files\n", MOST_FILES);
      return 1;
    }
    files[file_count].source = openat(dirfd(source), entry->d_name, O_RDONLY | O_NOFOLLOW);
    files[file_count].target = openat(target, entry->d_name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (files[file_count].source < 0 || files[file_count].target < 0) die(entry->d_name);
    files[file_count].size = status.st_size;
    bytes += status.st_size;
    file_count++;
  }

  cut(bytes);

  pthread_t workers[MOST_THREADS];
  for (int i = 0; i < threads; i++) {
    errno = pthread_create(&workers[i], NULL, work, NULL);
    if (errno != 0) die("pthread_create");
  }
  for (int i = 0; i < threads; i++) pthread_join(workers[i], NULL);
  for (int i = 0; i < file_count; i++) {
    if (close(files[i].target) != 0) die("close");
  }
  printf("%d files %lld bytes\n", file_count, bytes);
  return 0;
}
