/* An open-loop generator: requests are due at fixed times, whatever the server does, and each is
 * timed from when it was due. A closed loop (wrk, h2load) asks less while the server is slow, and
 * so hides from its percentiles the very moments that count.
 *
 * usage: openloop ADDRESS RATE SECONDS CONNECTIONS REQUESTS [until-close]
 *   ADDRESS   a port of 127.0.0.1, or the path of a Unix socket
 *   RATE      requests per second; 0: each of REQUESTS once, as fast as the connections allow
 *   REQUESTS  a file of records: u32 bytes, then the request as it goes out; used in turn
 *   until-close: a connection for each request, and its response is all up to its end (FastCGI)
 * Prints one JSON object. A request that has no connection waits for one, and its time runs. */
#define _GNU_SOURCE
#include "reply.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, EVENTS_MAX = 256 };
static const uint64_t SECOND_NS = 1000000000, PATIENCE_NS = 5000000000;  /* with a server that answers nothing */

struct request { const char *at; size_t length; };
struct connection { int socket; int busy; uint64_t due; struct reply reply; };

static struct {
  const char *address;
  double rate;
  uint64_t start;
  size_t total, connections;
  int until_close;
} plan;

static struct request *requests;
static size_t request_count, sent, done, bad, times_count, lags_count;
static uint32_t *times_us, *lags_us;  /* of each request: from its due time; until it could be sent */
static struct connection *idle[CONNECTIONS_MAX];
static size_t idle_count;
static int poll_file;
static uint64_t last_end;     /* when the last response ended */

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

static void *must(void *memory) {
  if (!memory) { fprintf(stderr, "openloop: out of memory\n"); exit(1); }
  return memory;
}

static void read_requests(const char *path) {
  FILE *file = fopen(path, "rb");
  uint32_t length;
  if (!file) { perror(path); exit(1); }
  while (fread(&length, sizeof length, 1, file) == 1) {
    requests = must(realloc(requests, (request_count + 1) * sizeof *requests));
    char *text = must(malloc(length));
    if (fread(text, 1, length, file) != length) { fprintf(stderr, "%s is cut off\n", path); exit(1); }
    requests[request_count++] = (struct request){text, length};
  }
  fclose(file);
  if (!request_count) { fprintf(stderr, "%s has no request\n", path); exit(1); }
}

static int open_socket(void) {
  struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  int result, yes = 1, is_local = plan.address[0] == '/';
  int opened = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
  if (is_local) {
    strncpy(local.sun_path, plan.address, sizeof local.sun_path - 1);
    result = connect(opened, (struct sockaddr *)&local, sizeof local);
  } else {
    tcp.sin_port = htons((uint16_t)atoi(plan.address));
    setsockopt(opened, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    result = connect(opened, (struct sockaddr *)&tcp, sizeof tcp);
  }
  if (result) { close(opened); return -1; }
  fcntl(opened, F_SETFL, O_NONBLOCK);
  return opened;
}

static int open_connection(struct connection *connection) {
  connection->socket = open_socket();
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
  return connection->socket >= 0 && !epoll_ctl(poll_file, EPOLL_CTL_ADD, connection->socket, &event);
}

static void close_connection(struct connection *connection) {
  if (connection->socket >= 0) close(connection->socket);
  connection->socket = -1;
}

static void finish(struct connection *connection, int good) {
  last_end = now();
  times_us[times_count++] = (uint32_t)((last_end - connection->due) / 1000);
  if (good) done++; else bad++;
  connection->busy = 0;
  idle[idle_count++] = connection;
}

static void send_next(struct connection *connection, uint64_t due) {
  struct request request = requests[sent++ % request_count];
  connection->busy = 1;
  connection->due = due;
  begin(&connection->reply);
  if (connection->socket < 0 && !open_connection(connection)) { finish(connection, 0); return; }
  if (send(connection->socket, request.at, request.length, MSG_NOSIGNAL) != (ssize_t)request.length) {
    close_connection(connection);
    finish(connection, 0);
  }
}

static void receive(struct connection *connection) {
  static char buffer[262144];
  ssize_t got = recv(connection->socket, buffer, sizeof buffer, 0);
  if (got < 0 && errno == EAGAIN) return;
  enum state state = BROKEN;
  if (plan.until_close) {
    if (got > 0) { connection->reply.good = 1; return; }
    state = got == 0 ? WHOLE : BROKEN;
  } else if (got > 0 && connection->busy) {
    state = take(&connection->reply, buffer, (size_t)got);
  }
  if (state == BROKEN || plan.until_close) close_connection(connection);
  if (state != MORE && connection->busy) finish(connection, state == WHOLE && connection->reply.good);
}

/* Sends what is due and has a connection; the time of the next request, or 0 at the end of all. */
static uint64_t send_due(void) {
  while (sent < plan.total) {
    uint64_t time = now();
    uint64_t due = plan.rate > 0 ? plan.start + (uint64_t)((double)sent * 1e9 / plan.rate) : time;
    if (due > time) return due;
    if (!idle_count) return time + SECOND_NS;
    /* The one that has been idle longest, so that all are used, as those of visitors are. */
    struct connection *connection = idle[0];
    memmove(idle, idle + 1, --idle_count * sizeof idle[0]);
    lags_us[lags_count++] = (uint32_t)((time - due) / 1000);
    send_next(connection, due);
  }
  return 0;
}

static void run(void) {
  struct epoll_event events[EVENTS_MAX];
  size_t told = 0;
  uint64_t last_due = plan.rate > 0 ? plan.start + (uint64_t)((double)plan.total * 1e9 / plan.rate) : plan.start;
  last_end = plan.start;
  while (done + bad < plan.total && now() < (last_due > last_end ? last_due : last_end) + PATIENCE_NS) {
    uint64_t next = send_due(), time = now();
    uint64_t pause = next > time ? next - time : next ? 0 : SECOND_NS / 10;
    struct timespec wait = {(time_t)(pause / SECOND_NS), (long)(pause % SECOND_NS)};
    int ready = epoll_pwait2(poll_file, events, EVENTS_MAX, &wait, 0);
    for (int i = 0; i < ready; i++) receive(events[i].data.ptr);
    if (plan.rate <= 0 && (done + bad) * 10 / plan.total > told) {
      told = (done + bad) * 10 / plan.total;
      fprintf(stderr, " %zu0%%", told);
    }
  }
}

static int by_size(const void *a, const void *b) {
  uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
  return (first > second) - (first < second);
}

static uint32_t quantile(const uint32_t *sorted, size_t count, double part) {
  if (!count) return 0;
  size_t at = (size_t)(part * (double)count);
  return sorted[at < count ? at : count - 1];
}

static void report(struct connection *connections) {
  for (size_t i = 0; i < plan.connections; i++)
    if (connections[i].busy) finish(&connections[i], 0);
  bad += plan.total - sent;
  double seconds = (double)(now() - plan.start) / 1e9;
  qsort(times_us, times_count, sizeof *times_us, by_size);
  qsort(lags_us, lags_count, sizeof *lags_us, by_size);
  printf("{\"requests\": %zu, \"done\": %zu, \"bad\": %zu, \"seconds\": %.3f, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, "
         "\"p999_us\": %u, \"max_us\": %u, \"unsent_p99_us\": %u}\n", plan.total, done, bad, seconds,
         quantile(times_us, times_count, 0.5), quantile(times_us, times_count, 0.9), quantile(times_us, times_count, 0.99),
         quantile(times_us, times_count, 0.999), quantile(times_us, times_count, 1), quantile(lags_us, lags_count, 0.99));
}

int main(int count, char **arguments) {
  if (count < 6) { fprintf(stderr, "usage: openloop ADDRESS RATE SECONDS CONNECTIONS REQUESTS [until-close]\n"); return 2; }
  plan.address = arguments[1];
  plan.rate = atof(arguments[2]);
  plan.connections = strtoul(arguments[4], 0, 10);
  if (plan.connections < 1 || plan.connections > CONNECTIONS_MAX) return 2;
  plan.until_close = count > 6;
  read_requests(arguments[5]);
  plan.total = plan.rate > 0 ? (size_t)(plan.rate * atof(arguments[3])) : request_count;
  times_us = must(calloc(plan.total + plan.connections, sizeof *times_us));
  lags_us = must(calloc(plan.total + 1, sizeof *lags_us));
  struct connection *connections = must(calloc(plan.connections, sizeof *connections));
  prctl(PR_SET_TIMERSLACK, 1);  /* or the kernel may wake it 50 us late */
  poll_file = epoll_create1(0);
  for (size_t i = 0; i < plan.connections; i++) {
    connections[i].socket = -1;
    if (!plan.until_close && !open_connection(&connections[i])) { perror("openloop: connect"); return 1; }
    idle[idle_count++] = &connections[i];
  }
  plan.start = now() + SECOND_NS / 100;
  run();
  report(connections);
  return 0;
}
