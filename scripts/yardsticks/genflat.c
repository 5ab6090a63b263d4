/*
 * genflat DIR N [MAXSIZE]: one directory of N files of 0 to MAXSIZE (1024) bytes.
 *
 * Prints how many files and bytes that is. Deterministic, incompressible.
 */
#include "generate.h"

int main(int count, char **arguments) {
  if (count < 3 || count > 4) {
    fprintf(stderr, "usage: genflat DIR N [MAXSIZE]\n");
    return 2;
  }
  long files = number(arguments[2], 0), most = count > 3 ? number(arguments[3], 0) : 1024;
  uint64_t *buffer = buffer_for(most);
  long bytes = 0;

  make_directory(AT_FDCWD, arguments[1]);
  int directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
  if (directory < 0) die(arguments[1]);
  for (long f = 0; f < files; f++) {
    char name[64];
    snprintf(name, sizeof name, "file_%08ld.dat", f);
    bytes += make_file(directory, name, (uint64_t)f, most, buffer);
  }
  printf("%ld files %ld bytes\n", files, bytes);
  return 0;
}
