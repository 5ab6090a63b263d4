/*
 * gendeep DIR CHAINS DEPTH NPER MAXSIZE: deep and narrow.
 *
 * Makes DIR with CHAINS chains of DEPTH directories, each in the one before, with NPER files of 0 to MAXSIZE bytes in
 * every one of them, and prints how many files and bytes that is. Deterministic, incompressible. Names are short:
 * a path stays below PATH_MAX down to about 1000 levels, for peers that cannot do more.
 */
#include "generate.h"

int main(int count, char **arguments) {
  if (count != 6) {
    fprintf(stderr, "usage: gendeep DIR CHAINS DEPTH NPER MAXSIZE\n");
    return 2;
  }
  long chains = number(arguments[2], 1), depth = number(arguments[3], 1);
  long files = number(arguments[4], 0), most = number(arguments[5], 0);
  uint64_t *buffer = buffer_for(most);
  uint64_t made = 0;
  long bytes = 0;

  make_directory(AT_FDCWD, arguments[1]);
  int root = open(arguments[1], O_RDONLY | O_DIRECTORY);
  if (root < 0) die(arguments[1]);
  for (long c = 0; c < chains; c++) {
    int parent = dup(root);
    for (long level = 0; level < depth; level++) {
      char name[64];
      if (level == 0)
        snprintf(name, sizeof name, "c%03ld", c);
      else
        snprintf(name, sizeof name, "d");
      make_directory(parent, name);
      int directory = openat(parent, name, O_RDONLY | O_DIRECTORY);
      if (directory < 0) die(name);
      close(parent);
      for (long f = 0; f < files; f++) {
        snprintf(name, sizeof name, "f%03ld", f);
        bytes += make_file(directory, name, made++, most, buffer);
      }
      parent = directory;
    }
    close(parent);
  }
  printf("%ld files %ld bytes\n", (long)made, bytes);
  return 0;
}
