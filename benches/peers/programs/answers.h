/* The file of answers that Python writes and limit.c serves, mapped into memory: records of
 *   u32 target bytes, u32 answer bytes (native byte order), the target, the answer as it goes out. */
#ifndef ANSWERS_H
#define ANSWERS_H
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct bytes { const char *at; size_t length; };
struct answer { struct bytes target, whole; };
struct answers { struct answer *slots; size_t mask; };

static struct bytes map_file(const char *path) {
  struct stat facts;
  int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &facts)) { perror(path); exit(1); }
  char *at = mmap(0, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
  if (at == MAP_FAILED) { perror(path); exit(1); }
  close(file);
  return (struct bytes){at, (size_t)facts.st_size};
}

static uint64_t hash(struct bytes text) { /* FNV-1a */
  uint64_t value = 14695981039346656037u;
  for (size_t i = 0; i < text.length; i++) value = (value ^ (uint8_t)text.at[i]) * 1099511628211u;
  return value;
}

static int same(struct bytes a, struct bytes b) {
  return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

/* The slot of the target, or the empty one where it would be. */
static struct answer *slot_of(const struct answers *answers, struct bytes target) {
  size_t place = hash(target) & answers->mask;
  while (answers->slots[place].target.at && !same(answers->slots[place].target, target))
    place = (place + 1) & answers->mask;
  return &answers->slots[place];
}

static struct answer next_record(const char **at) {
  uint32_t lengths[2];
  memcpy(lengths, *at, sizeof lengths);
  const char *target = *at + sizeof lengths;
  *at = target + lengths[0] + lengths[1];
  return (struct answer){{target, lengths[0]}, {target + lengths[0], lengths[1]}};
}

static struct answers load_answers(const char *path) {
  struct bytes file = map_file(path);
  const char *end = file.at + file.length;
  size_t count = 0, slots = 2;
  for (const char *at = file.at; at < end; count++) next_record(&at);
  while (slots < 2 * count) slots *= 2;
  struct answers answers = {calloc(slots, sizeof(struct answer)), slots - 1};
  if (!answers.slots) exit(1);
  for (const char *at = file.at; at < end;) {
    struct answer record = next_record(&at);
    *slot_of(&answers, record.target) = record;
  }
  return answers;
}
#endif
