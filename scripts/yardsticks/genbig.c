/*
 * genbig DIR N MIB: N files of MIB mebibytes each.
 *
 * Prints how many files and bytes that is. Deterministic, incompressible, no runs of zeros.
 */
#include "generate.h"

enum { MEBIBYTE = 1 << 20 };

int main(int count, char **arguments) {
  if (count != 4) {
    fprintf(stderr, "usage: genbig DIR N MIB\n");
    return 2;
  }
  long files = number(arguments[2], 1), size = number(arguments[3], 0);
  uint64_t *buffer = buffer_for(MEBIBYTE);

  make_directory(AT_FDCWD, arguments[1]);
  int directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
  if (directory < 0) die(arguments[1]);
  for (long f = 0; f < files; f++) {
    char name[64];
    snprintf(name, sizeof name, "big_%03ld.dat", f);
    uint64_t state = stream_of((uint64_t)f);
    int file = openat(directory, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (file < 0) die(name);
    for (long mebibyte = 0; mebibyte < size; mebibyte++) {
      for (int word = 0; word < MEBIBYTE / 8; word++) buffer[word] = next_word(&state);
      write_all(file, (const char *)buffer, MEBIBYTE);
    }
    if (close(file) != 0) die(name);
  }
  printf("%ld files %ld bytes\n", files, files * size * MEBIBYTE);
  return 0;
}
