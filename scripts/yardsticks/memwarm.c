/*
 * memwarm MIB: touches that much memory on two threads and gives it back.
 *
 * A virtual machine pays several times as much for the first touch of a page that its host has taken back as for any
 * later one. Run right before a measurement, this lets the measured program find its pages with the guest.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS = 2, PAGE = 4096 };

static char *memory;
static size_t share;

static void *touch(void *which) {
  char *start = memory + (size_t)which * share;
  for (size_t at = 0; at < share; at += PAGE) start[at] = 1;
  return NULL;
}

int main(int count, char **arguments) {
  long mebibytes = count == 2 ? atol(arguments[1]) : 0;
  if (mebibytes < 1) {
    fprintf(stderr, "usage: memwarm MIB\n");
    return 2;
  }
  share = ((size_t)mebibytes << 20) / THREADS;
  memory = mmap(NULL, share * THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("memwarm");
    return 1;
  }
  /* Small pages, as files have them: huge ones would leave most of the work undone. */
  madvise(memory, share * THREADS, MADV_NOHUGEPAGE);
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++) {
    int error = pthread_create(&threads[i], NULL, touch, (void *)i);
    if (error != 0) {
      fprintf(stderr, "memwarm: %s\n", strerror(error));
      return 1;
    }
  }
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  return 0;
}
