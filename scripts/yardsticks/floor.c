/*
 * floor MODE THREADS TREE…          modes walk, walkstat, read, remove
 * floor MODE THREADS SOURCE TARGET  modes copy_full, copy_rename, copy_stagedir
 *
 * The practical lower bound for work on trees of small files: what is left when nothing is reported, resumed, excluded
 * or survived. One task a directory, every call relative to a directory descriptor, raw getdents64, one shared stack
 * of tasks; what does not fit in one buffer of names is further tasks, so that a large directory keeps all threads busy.
 *
 *   walk           names only
 *   walkstat       and statx of each
 *   read           and the content of each file, without statx
 *   remove         unlink everything; a directory goes with its last entry
 *   copy_full      what a careful copier does: create exclusively as 0600, content, flistxattr, owner where it differs,
 *                  mode, times; directories get theirs when their last entry is done
 *   copy_rename    the same under another name, renamed when it is complete
 *   copy_stagedir  the same in directories under another name, each renamed when its own files are done
 *
 * Prints what it found: files (all that is no directory), directories without the roots, bytes in regular files (0 for
 * walk and remove, which don't ask). Any error ends it with exit code 1: a yardstick that did less than it should is none.
 * TARGET must not exist. Hard links become files of their own, FIFOs, sockets and devices are left out.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MOST_THREADS = 64, CONTENT_BUFFER = 128 << 10, NAME_BUFFER = 64 << 10, XATTR_BUFFER = 64 << 10 };

enum mode { WALK, WALKSTAT, READ, REMOVE, COPY_FULL, COPY_RENAME, COPY_STAGEDIR, MODES };
static const char *const MODE_NAMES[MODES] = {"walk",      "walkstat",    "read",         "remove",
                                              "copy_full", "copy_rename", "copy_stagedir"};

/* What the kernel writes for getdents64. */
struct entry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char kind;
  char name[];
};

struct directory {
  struct directory *parent;
  char *name;       /* relative to the parent; for a root its path */
  int source;       /* descriptors; -1: not open, or not copying */
  int target;
  char stage[24];   /* the name until its files are done; empty: the final one */
  atomic_long files; /* buffers of names that are not done */
  atomic_long open;  /* 1 for its own files, and 1 for each subdirectory that is not done */
};

/* A buffer of names of a directory; without one: the directory is still to be opened and listed. */
struct task {
  struct task *below;
  struct directory *directory;
  char *names;
  long length;
};

/* What a thread has for itself. */
struct worker {
  pthread_t thread;
  char *content;
  char *xattrs;
  long files, directories, bytes;
};

static enum mode mode;
static uid_t own_user;
static gid_t own_group;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct task *stack; /* newest first: deep before wide keeps few directories open */
static long unfinished;    /* tasks on the stack and at work */

static void die(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL) die("malloc");
  return memory;
}

static bool copying(void) { return mode >= COPY_FULL; }

static int rename_new(int directory, const char *from, const char *to) {
  return (int)syscall(SYS_renameat2, directory, from, directory, to, RENAME_NOREPLACE);
}

static void push(struct directory *directory, char *names, long length) {
  struct task *task = allocate(sizeof *task);
  *task = (struct task){.directory = directory, .names = names, .length = length};
  pthread_mutex_lock(&lock);
  task->below = stack;
  stack = task;
  unfinished++;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
}

static struct directory *new_directory(struct directory *parent, const char *name) {
  struct directory *directory = allocate(sizeof *directory);
  *directory = (struct directory){.parent = parent, .name = strdup(name), .source = -1, .target = -1, .files = 1, .open = 1};
  if (directory->name == NULL) die(name);
  if (parent != NULL) atomic_fetch_add(&parent->open, 1);
  push(directory, NULL, 0);
  return directory;
}

/* Owner where it differs, mode and times: the last of them marks a finished entry. */
static void apply_metadata(int target, const struct statx *status, const char *name) {
  if ((status->stx_uid != own_user || status->stx_gid != own_group) &&
      fchown(target, status->stx_uid, status->stx_gid) != 0)
    die(name);
  if (fchmod(target, status->stx_mode & 07777) != 0) die(name);
  struct timespec times[2] = {{.tv_sec = status->stx_atime.tv_sec, .tv_nsec = status->stx_atime.tv_nsec},
                              {.tv_sec = status->stx_mtime.tv_sec, .tv_nsec = status->stx_mtime.tv_nsec}};
  if (futimens(target, times) != 0) die(name);
}

static void copy_link(struct directory *directory, const char *name) {
  char text[PATH_MAX];
  ssize_t length = readlinkat(directory->source, name, text, sizeof text - 1);
  if (length < 0) die(name);
  text[length] = '\0';
  struct stat status;
  if (symlinkat(text, directory->target, name) != 0 ||
      fstatat(directory->source, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
    die(name);
  if ((status.st_uid != own_user || status.st_gid != own_group) &&
      fchownat(directory->target, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    die(name);
  struct timespec times[2] = {status.st_atim, status.st_mtim};
  if (utimensat(directory->target, name, times, AT_SYMLINK_NOFOLLOW) != 0) die(name);
}

static void copy_file(struct worker *worker, struct directory *directory, const char *name) {
  int source = openat(directory->source, name, O_RDONLY | O_NOFOLLOW);
  if (source < 0) die(name);
  struct statx status;
  if (statx(source, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) != 0) die(name);

  char stage[32];
  const char *made = name;
  if (mode == COPY_RENAME) {
    snprintf(stage, sizeof stage, ".stage-%lx", (unsigned long)pthread_self());
    made = stage;
  }
  int target = openat(directory->target, made, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0600);
  if (target < 0) die(name);
  for (uint64_t left = status.stx_size; left > 0;) {
    ssize_t got = read(source, worker->content, CONTENT_BUFFER);
    if (got <= 0 || write(target, worker->content, (size_t)got) != got) die(name);
    left -= (uint64_t)got < left ? (uint64_t)got : left;
  }
  worker->bytes += (long)status.stx_size;
  if (flistxattr(source, worker->xattrs, XATTR_BUFFER) < 0 && errno != ENOTSUP) die(name);
  apply_metadata(target, &status, name);
  if (mode == COPY_RENAME && rename_new(directory->target, stage, name) != 0) die(name);
  if (close(source) != 0 || close(target) != 0) die(name);
}

static void read_file(struct worker *worker, struct directory *directory, const char *name) {
  int source = openat(directory->source, name, O_RDONLY | O_NOFOLLOW);
  if (source < 0) die(name);
  ssize_t got;
  do { /* a short read is the end of a regular file: no call to find out */
    got = read(source, worker->content, CONTENT_BUFFER);
    if (got < 0) die(name);
    worker->bytes += got;
  } while (got == CONTENT_BUFFER);
  close(source);
}

static void stat_entry(struct worker *worker, struct directory *directory, const char *name) {
  struct statx status;
  if (statx(directory->source, name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &status) != 0) die(name);
  if (S_ISREG(status.stx_mode)) worker->bytes += (long)status.stx_size;
}

static unsigned char kind_of(struct directory *directory, const struct entry *entry) {
  if (entry->kind != DT_UNKNOWN) return entry->kind;
  struct stat status;
  if (fstatat(directory->source, entry->name, &status, AT_SYMLINK_NOFOLLOW) != 0) die(entry->name);
  return IFTODT(status.st_mode);
}

static void do_entry(struct worker *worker, struct directory *directory, const struct entry *entry) {
  const char *name = entry->name;
  if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return;
  unsigned char kind = kind_of(directory, entry);
  if (kind == DT_DIR) {
    worker->directories++;
    if (mode == WALKSTAT) stat_entry(worker, directory, name);
    new_directory(directory, name);
    return;
  }
  worker->files++;
  switch (mode) {
    case WALK:
      break;
    case WALKSTAT:
      stat_entry(worker, directory, name);
      break;
    case READ:
      if (kind == DT_REG) read_file(worker, directory, name);
      break;
    case REMOVE:
      if (unlinkat(directory->source, name, 0) != 0) die(name);
      break;
    default:
      if (kind == DT_REG) copy_file(worker, directory, name);
      if (kind == DT_LNK) copy_link(directory, name);
  }
}

/* Opens a directory, and makes and opens its twin. A root's twin was made by main. */
static void enter(struct directory *directory) {
  struct directory *parent = directory->parent;
  int beside = parent == NULL ? AT_FDCWD : parent->source;
  directory->source = openat(beside, directory->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (directory->source < 0) die(directory->name);
  if (!copying() || parent == NULL) return;

  const char *made = directory->name;
  if (mode == COPY_STAGEDIR) {
    snprintf(directory->stage, sizeof directory->stage, ".s-%lx", (unsigned long)directory);
    made = directory->stage;
  }
  if (mkdirat(parent->target, made, 0700) != 0) die(directory->name);
  directory->target = openat(parent->target, made, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (directory->target < 0) die(directory->name);
}

/* Lists a directory. The last buffer of names is returned for this thread, the ones before are for anybody. */
static char *list(struct directory *directory, long *length) {
  char *names = NULL;
  *length = 0;
  for (;;) {
    char *next = allocate(NAME_BUFFER);
    long got = syscall(SYS_getdents64, directory->source, next, NAME_BUFFER);
    if (got < 0) die(directory->name);
    if (got == 0) {
      free(next);
      return names;
    }
    if (names != NULL) {
      atomic_fetch_add(&directory->files, 1);
      push(directory, names, *length);
    }
    names = next;
    *length = got;
  }
}

/* One thing less is open in this directory; where it was the last, the directory is done, and perhaps its parent. */
static void leave(struct directory *directory) {
  while (directory != NULL && atomic_fetch_sub(&directory->open, 1) == 1) {
    struct directory *parent = directory->parent;
    if (copying()) {
      struct statx status;
      if (statx(directory->source, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) die(directory->name);
      apply_metadata(directory->target, &status, directory->name);
      close(directory->target);
    }
    close(directory->source);
    if (mode == REMOVE && unlinkat(parent == NULL ? AT_FDCWD : parent->source, directory->name, AT_REMOVEDIR) != 0)
      die(directory->name);
    free(directory->name);
    free(directory);
    directory = parent;
  }
}

static void do_task(struct worker *worker, struct task *task) {
  struct directory *directory = task->directory;
  if (task->names == NULL) {
    enter(directory);
    task->names = list(directory, &task->length);
  }
  for (long at = 0; at < task->length;) {
    const struct entry *entry = (const struct entry *)(task->names + at);
    at += entry->length;
    do_entry(worker, directory, entry);
  }
  free(task->names);
  if (atomic_fetch_sub(&directory->files, 1) == 1) {
    if (directory->stage[0] != '\0' && rename_new(directory->parent->target, directory->stage, directory->name) != 0)
      die(directory->name);
    leave(directory);
  }
}

static void *work(void *argument) {
  struct worker *worker = argument;
  worker->content = allocate(CONTENT_BUFFER);
  worker->xattrs = allocate(XATTR_BUFFER);
  pthread_mutex_lock(&lock);
  for (;;) {
    while (stack == NULL && unfinished > 0) pthread_cond_wait(&changed, &lock);
    if (stack == NULL) break;
    struct task *task = stack;
    stack = task->below;
    pthread_mutex_unlock(&lock);
    do_task(worker, task);
    free(task);
    pthread_mutex_lock(&lock);
    if (--unfinished == 0) pthread_cond_broadcast(&changed);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* Deep trees hold a descriptor or two a level. */
static void allow_many_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) die("RLIMIT_NOFILE");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) die("RLIMIT_NOFILE");
}

int main(int count, char **arguments) {
  for (mode = 0; mode < MODES && (count < 2 || strcmp(arguments[1], MODE_NAMES[mode]) != 0);) mode++;
  int threads = count > 2 ? atoi(arguments[2]) : 0;
  if (mode == MODES || threads < 1 || threads > MOST_THREADS || count < 4 || (copying() && count != 5)) {
    fprintf(stderr, "usage: floor walk|walkstat|read|remove THREADS TREE…\n"
                    "       floor copy_full|copy_rename|copy_stagedir THREADS SOURCE TARGET\n");
    return 2;
  }
  umask(0);
  allow_many_descriptors();
  own_user = geteuid();
  own_group = getegid();

  for (int i = 3; i < (copying() ? 4 : count); i++) {
    struct directory *root = new_directory(NULL, arguments[i]);
    if (!copying()) continue;
    if (mkdir(arguments[4], 0700) != 0) die(arguments[4]);
    root->target = open(arguments[4], O_RDONLY | O_DIRECTORY);
    if (root->target < 0) die(arguments[4]);
  }

  struct worker workers[MOST_THREADS] = {0};
  for (int i = 0; i < threads; i++) {
    errno = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    if (errno != 0) die("pthread_create");
  }
  long files = 0, directories = 0, bytes = 0;
  for (int i = 0; i < threads; i++) {
    pthread_join(workers[i].thread, NULL);
    files += workers[i].files;
    directories += workers[i].directories;
    bytes += workers[i].bytes;
  }
  printf("%ld files %ld directories %ld bytes\n", files, directories, bytes);
  return 0;
}
