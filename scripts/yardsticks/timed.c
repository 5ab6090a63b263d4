/*
 * timed COMMAND ARGUMENT…: runs a command and accounts for all that it started.
 *
 * Writes one JSON object to descriptor 3, which the command does not get: seconds of wall clock, user and system time
 * of the whole tree of processes, the largest resident size of any one of them in KiB, and the exit code (128 and the
 * number of a signal that ended it). Processes that lose their parent are adopted, so that their time is counted too;
 * the wall clock stops when the last of them has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RESULT = 3, NOT_STARTED = 127 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

int main(int count, char **arguments) {
  if (count < 2 || fcntl(RESULT, F_SETFD, FD_CLOEXEC) != 0) {
    fprintf(stderr, "usage: timed COMMAND ARGUMENT… 3>RESULT\n");
    return 2;
  }
  if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) != 0) {
    perror("timed");
    return 2;
  }
  double start = now();
  pid_t command = fork();
  if (command < 0) {
    perror("timed");
    return 2;
  }
  if (command == 0) {
    execvp(arguments[1], arguments + 1);
    fprintf(stderr, "%s: %s\n", arguments[1], strerror(errno));
    _exit(NOT_STARTED);
  }

  int code = NOT_STARTED;
  for (;;) {
    int status;
    pid_t ended = wait(&status);
    if (ended < 0 && errno == EINTR) continue;
    if (ended < 0) break; /* ECHILD: all have ended */
    if (ended == command) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  double wall = now() - start;

  struct rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  dprintf(RESULT, "{\"wall\":%.6f,\"user\":%.6f,\"system\":%.6f,\"resident\":%ld,\"code\":%d}\n", wall,
          seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss, code);
  return 0;
}
