/* The practical limit of one core: a bare epoll loop that finds the target of a request among
 * prepared answers and sends that answer. It knows of HTTP the request line and the blank line,
 * so whatever a cache does beyond shows against it. It is the origin of all servers too.
 *
 * usage: limit PORT ANSWERS */
#define _GNU_SOURCE
#include "answers.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { REQUEST_BYTES_MAX = 16384, EVENTS_MAX = 256 };

static const char NOT_FOUND[] =
  "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n";

struct connection {
  int socket;
  size_t received;              /* bytes of the requests that are not answered yet */
  struct bytes unsent;          /* what is left of the answer under way */
  char request[REQUEST_BYTES_MAX];
};

static struct answers answers;

static struct bytes answer_to(const char *request, const char *end) {
  const char *target = memchr(request, ' ', (size_t)(end - request));
  const char *after = target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : 0;
  if (after) {
    struct answer *found = slot_of(&answers, (struct bytes){target + 1, (size_t)(after - target - 1)});
    if (found->target.at) return found->whole;
  }
  return (struct bytes){NOT_FOUND, sizeof NOT_FOUND - 1};
}

/* 0: all is sent, 1: the socket takes no more for now, -1: the connection is lost. */
static int send_on(struct connection *connection) {
  while (connection->unsent.length) {
    ssize_t sent = send(connection->socket, connection->unsent.at, connection->unsent.length, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 1 : -1;
    connection->unsent.at += sent;
    connection->unsent.length -= (size_t)sent;
  }
  return 0;
}

/* Answers the whole requests that are there; results as above. */
static int answer_all(struct connection *connection) {
  int state = send_on(connection);
  while (state == 0 && connection->received) {
    char *end = memmem(connection->request, connection->received, "\r\n\r\n", 4);
    if (!end) return connection->received == REQUEST_BYTES_MAX ? -1 : 0;
    connection->unsent = answer_to(connection->request, end);
    connection->received -= (size_t)(end + 4 - connection->request);
    if (connection->received) memmove(connection->request, end + 4, connection->received);
    state = send_on(connection);
  }
  return state;
}

static int serve(struct connection *connection) {
  for (;;) {
    int state = answer_all(connection);
    if (state) return state;
    size_t room = REQUEST_BYTES_MAX - connection->received;
    ssize_t got = recv(connection->socket, connection->request + connection->received, room, 0);
    if (got == 0) return -1;
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    connection->received += (size_t)got;
    /* A short read has taken all that was there; the next arrival is an event of its own. */
    if ((size_t)got < room) return answer_all(connection);
  }
}

static void accept_all(int listener, int poll) {
  int socket, yes = 1;
  while ((socket = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    struct connection *connection = malloc(sizeof *connection);
    if (!connection) { close(socket); continue; }
    connection->socket = socket;
    connection->received = 0;
    connection->unsent = (struct bytes){0, 0};
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event);
  }
}

int main(int count, char **arguments) {
  if (count != 3) { fprintf(stderr, "usage: limit PORT ANSWERS\n"); return 2; }
  answers = load_answers(arguments[2]);
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("limit");
    return 1;
  }
  int poll = epoll_create1(0);
  struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.ptr = 0};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int ready = epoll_wait(poll, events, EVENTS_MAX, -1);
    for (int i = 0; i < ready; i++) {
      struct connection *connection = events[i].data.ptr;
      if (!connection) { accept_all(listener, poll); continue; }
      if (serve(connection) < 0) { close(connection->socket); free(connection); }
    }
  }
}
