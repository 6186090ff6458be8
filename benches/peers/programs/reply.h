/* Follows one response as its bytes arrive: where it ends, and whether its status was 200. */
#ifndef REPLY_H
#define REPLY_H
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_BYTES_MAX = 65536 };
enum part { HEAD, CONTENT, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };
enum state { MORE, WHOLE, BROKEN };

struct reply {
  enum part part;
  int good;
  size_t left;                  /* of the content or of the chunk */
  size_t line;                  /* bytes of the chunk-size or trailer line so far */
  size_t head_bytes;
  char head[HEAD_BYTES_MAX + 1];
};

static void begin(struct reply *reply) {
  reply->part = HEAD;
  reply->good = 0;
  reply->head_bytes = 0;
}

static const char *field(const char *head, const char *name) {
  const char *at = strcasestr(head, name);
  return at ? at + strlen(name) : 0;
}

/* The head is there: what follows it. */
static enum state begin_content(struct reply *reply) {
  reply->head[reply->head_bytes] = 0;
  reply->good = strncmp(reply->head, "HTTP/1.1 200", 12) == 0;
  const char *length = field(reply->head, "\r\ncontent-length:");
  if (length) {
    reply->left = strtoul(length, 0, 10);
    reply->part = CONTENT;
    return reply->left ? MORE : WHOLE;
  }
  if (!field(reply->head, "\r\ntransfer-encoding: chunked")) return BROKEN;
  reply->part = CHUNK_SIZE;
  reply->left = reply->line = 0;
  return MORE;
}

static size_t take_head(struct reply *reply, const char *bytes, size_t count, enum state *state) {
  size_t room = HEAD_BYTES_MAX - reply->head_bytes, before = reply->head_bytes;
  size_t copied = count < room ? count : room;
  memcpy(reply->head + before, bytes, copied);
  reply->head_bytes += copied;
  size_t from = before > 3 ? before - 3 : 0;
  char *end = memmem(reply->head + from, reply->head_bytes - from, "\r\n\r\n", 4);
  if (!end) {
    if (reply->head_bytes == HEAD_BYTES_MAX) *state = BROKEN;
    return copied;
  }
  reply->head_bytes = (size_t)(end + 4 - reply->head);
  *state = begin_content(reply);
  return reply->head_bytes - before;
}

static int digit(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  byte |= 0x20;
  return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* One byte of the lines around chunks. */
static enum state take_line(struct reply *reply, char byte) {
  if (reply->part == CHUNK_SIZE && digit(byte) >= 0) reply->left = reply->left * 16 + (size_t)digit(byte);
  if (byte != '\n') {
    reply->line += byte != '\r';
    return MORE;
  }
  if (reply->part == TRAILER && reply->line == 0) return WHOLE;
  if (reply->part == CHUNK_SIZE) reply->part = reply->left ? CHUNK : TRAILER;
  else if (reply->part == CHUNK_END) reply->part = CHUNK_SIZE;
  reply->line = 0;
  return MORE;
}

/* Takes what has arrived; what would follow the response counts as broken, as nothing was asked. */
static enum state take(struct reply *reply, const char *bytes, size_t count) {
  enum state state = MORE;
  while (count && state == MORE) {
    size_t used = 1;
    if (reply->part == HEAD) {
      used = take_head(reply, bytes, count, &state);
    } else if (reply->part == CONTENT || reply->part == CHUNK) {
      used = count < reply->left ? count : reply->left;
      reply->left -= used;
      if (!reply->left && reply->part == CONTENT) state = WHOLE;
      if (!reply->left && reply->part == CHUNK) reply->part = CHUNK_END;
    } else {
      state = take_line(reply, *bytes);
    }
    bytes += used;
    count -= used;
  }
  return count ? BROKEN : state;
}
#endif
