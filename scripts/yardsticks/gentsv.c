/*
 * gentsv DIR N MIB: N files of tab-separated text, MIB mebibytes in all: sites of a genome with the genotypes of twelve samples.
 *
 * Prints how many files and bytes that is. Deterministic; gzip -6 makes about a fifth of it, as of such tables.
 */
#include "generate.h"

enum { MEBIBYTE = 1 << 20, SAMPLES = 12, LONGEST_LINE = 1024 };

/* From 0 to 1. */
static double part_of_one(uint64_t *state) { return (double)(next_word(state) >> 11) / 9007199254740992.0; }

/* One site after another; returns the length of its line. */
static int site(char *line, long *position, uint64_t *state) {
  static const char *const genotypes[] = {"0/0", "0/1", "1/1", "./."};
  *position += 1 + (long)(next_word(state) % 120);
  char reference = "ACGT"[next_word(state) & 3], other = "ACGT"[next_word(state) & 3];
  double frequency = part_of_one(state);
  frequency = frequency * frequency * frequency * frequency;
  int depth = 20 + (int)(next_word(state) % 60);
  int length = sprintf(line, "chr7\t%ld\trs%lu\t%c\t%c\t%.2f\tPASS\tAC=%d;AF=%.5f;AN=5008;DP=%d;NS=2504\tGT:DP:GQ", *position,
                       (unsigned long)(next_word(state) % 900000000), reference, other,
                       30 + (double)(next_word(state) % 7000) / 100, (int)(frequency * 5008), frequency, depth * 2504);
  for (int sample = 0; sample < SAMPLES; sample++) {
    double chance = part_of_one(state);
    int kind = chance < frequency * frequency ? 2 : chance < 2 * frequency ? 1 : chance > 0.995 ? 3 : 0;
    int reads = depth / 2 + (int)(next_word(state) & 15), quality = reads > 33 ? 99 : reads * 3;
    length += sprintf(line + length, "\t%s:%d:%d", genotypes[kind], reads, kind == 3 ? 0 : quality);
  }
  line[length++] = '\n';
  return length;
}

int main(int count, char **arguments) {
  if (count != 4) {
    fprintf(stderr, "usage: gentsv DIR N MIB\n");
    return 2;
  }
  long files = number(arguments[2], 1), most = number(arguments[3], 0) * MEBIBYTE / files, bytes = 0;
  char *buffer = malloc(MEBIBYTE + LONGEST_LINE);
  if (buffer == NULL) die("malloc");

  make_directory(AT_FDCWD, arguments[1]);
  int directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
  if (directory < 0) die(arguments[1]);
  for (long f = 0; f < files; f++) {
    char name[64];
    snprintf(name, sizeof name, "table_%05ld.tsv", f);
    uint64_t state = stream_of((uint64_t)f);
    int file = openat(directory, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (file < 0) die(name);
    long position = 10000, size = 0;
    while (size < most) {
      int filled = 0;
      while (filled < MEBIBYTE && size + filled < most) filled += site(buffer + filled, &position, &state);
      write_all(file, buffer, (size_t)filled);
      size += filled;
    }
    if (close(file) != 0) die(name);
    bytes += size;
  }
  printf("%ld files %ld bytes\n", files, bytes);
  return 0;
}
