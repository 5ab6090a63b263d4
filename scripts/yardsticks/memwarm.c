/*
 * memwarm MIB COMMAND ARGUMENT…: runs a command with that much memory, and a little more, free and warm.
 *
 * A virtual machine pays several times as much for the first touch of a page that its host has taken back as for any
 * later one, and hosts take back what is free in large blocks (free page reporting: 128 KiB and more) within seconds. So
 * two threads touch that much memory, and all of it is given back but one page of sixteen, which is held until the command
 * has ended: no block is free as a whole meanwhile. Ends with the exit code of the command, 128 and the number where a
 * signal ended it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { THREADS = 2, PAGE = 4096, HELD = 16 };

extern char **environ;

static char *memory;
static size_t share;

static void *touch(void *which) {
  char *start = memory + (size_t)which * share;
  for (size_t at = 0; at < share; at += PAGE) start[at] = 1;
  return NULL;
}

static void *give_back(void *which) {
  char *start = memory + (size_t)which * share;
  const size_t stretch = (size_t)HELD * PAGE;
  for (size_t at = 0; at + stretch <= share; at += stretch) {
    if (madvise(start + at + PAGE, stretch - PAGE, MADV_DONTNEED) != 0) return start;
  }
  return NULL;
}

/* On both threads; answers whether it went well. */
static int on_threads(void *(*work)(void *)) {
  pthread_t threads[THREADS];
  int good = 1;
  for (size_t i = 0; i < THREADS; i++) {
    int error = pthread_create(&threads[i], NULL, work, (void *)i);
    if (error != 0) {
      fprintf(stderr, "memwarm: %s\n", strerror(error));
      exit(1);
    }
  }
  for (size_t i = 0; i < THREADS; i++) {
    void *failed;
    if (pthread_join(threads[i], &failed) != 0 || failed != NULL) good = 0;
  }
  return good;
}

int main(int count, char **arguments) {
  long mebibytes = count > 2 ? atol(arguments[1]) : 0;
  if (mebibytes < 1) {
    fprintf(stderr, "usage: memwarm MIB COMMAND [ARGUMENT...]\n");
    return 2;
  }
  share = ((size_t)mebibytes << 20) / THREADS;
  memory = mmap(NULL, share * THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  /* Small pages, as files have them: huge ones would leave most of the work undone. */
  if (memory == MAP_FAILED || madvise(memory, share * THREADS, MADV_NOHUGEPAGE) != 0) {
    perror("memwarm");
    return 1;
  }
  if (!on_threads(touch) || !on_threads(give_back)) {
    fprintf(stderr, "memwarm: memory could not be given back\n");
    return 1;
  }
  pid_t child;
  int error = posix_spawnp(&child, arguments[2], NULL, NULL, arguments + 2, environ);
  if (error != 0) {
    fprintf(stderr, "memwarm: %s: %s\n", arguments[2], strerror(error));
    return 127;
  }
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) {
      perror("memwarm");
      return 1;
    }
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
