/*
 * gen DIR NDIRS NPER MAXSIZE: a tree of small files.
 *
 * Makes DIR with NDIRS directories of NPER files of 0 to MAXSIZE bytes each, 50 directories under one of the first
 * level, and prints how many files and bytes that is. Deterministic, incompressible.
 */
#include "generate.h"

enum { DIRECTORIES_PER_TOP = 50 };

int main(int count, char **arguments) {
  if (count != 5) {
    fprintf(stderr, "usage: gen DIR NDIRS NPER MAXSIZE\n");
    return 2;
  }
  long directories = number(arguments[2], 1), files = number(arguments[3], 0), most = number(arguments[4], 0);
  uint64_t *buffer = buffer_for(most);
  char name[64];
  long bytes = 0;

  make_directory(AT_FDCWD, arguments[1]);
  int root = open(arguments[1], O_RDONLY | O_DIRECTORY);
  if (root < 0) die(arguments[1]);
  for (long d = 0; d < directories; d++) {
    snprintf(name, sizeof name, "t%03ld", d / DIRECTORIES_PER_TOP);
    if (d % DIRECTORIES_PER_TOP == 0) make_directory(root, name);
    snprintf(name, sizeof name, "t%03ld/d%05ld", d / DIRECTORIES_PER_TOP, d);
    make_directory(root, name);
    int directory = openat(root, name, O_RDONLY | O_DIRECTORY);
    if (directory < 0) die(name);
    for (long f = 0; f < files; f++) {
      snprintf(name, sizeof name, "file_%05ld.dat", f);
      bytes += make_file(directory, name, (uint64_t)(d * files + f), most, buffer);
    }
    close(directory);
  }
  printf("%ld files %ld bytes\n", directories * files, bytes);
  return 0;
}
