/* planner.py: one process that reads the graphs of all models, so that one which ends or stalls its reader,
 * or takes all memory, fails alone. It is started when it is needed, and stopped when it has had nothing to
 * do for a while.
 *
 * Over a socket it says that it is ready, and gets one end of a connection for each model. */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native.h"

#define SECOND_NS 1000000000ull
#define START_TIMEOUT_NS (60 * SECOND_NS) /* until it is ready, and until it has begun with a model */
#define GRACE_NS (10 * SECOND_NS)         /* beyond the limit that it sets itself for a model */
#define IDLE_NS (20 * SECOND_NS)
#define STOP_TIMEOUT_NS (2 * SECOND_NS)

enum { CONTROL_DESCRIPTOR = 3, LARGEST_REPLY = 256 << 20, LARGEST_PATH = 4096 };

extern char** environ;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static char* script;
static char library[LARGEST_PATH]; /* ONNX Runtime's; "" before the first planner was ready */
static pid_t planner;              /* 0: none is running */
static int control = -1;
static bool ready;
static unsigned generation; /* so that nobody stops a later one than they talked to */
static bool unusable;       /* it did not start, so the Python half serves all models */
static unsigned asking;     /* how many wait for an answer */
static uint64_t idle_since;

const char* onnxruntime_library(void)
{
  return library;
}

/* ---- bytes over sockets, until a deadline ---- */

/* Wait until a descriptor is ready; false after the deadline, with errno set. */
static bool wait_for(int descriptor, short events, uint64_t deadline)
{
  for (;;) {
    uint64_t now = now_ns();
    if (now >= deadline) return errno = ETIMEDOUT, false;
    struct pollfd wanted = {.fd = descriptor, .events = events};
    int ready = poll(&wanted, 1, (int)((deadline - now) / 1000000) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

static bool send_all(int descriptor, const void* data, size_t size, uint64_t deadline)
{
  for (const char* at = data; size;) {
    if (!wait_for(descriptor, POLLOUT, deadline)) return false;
    ssize_t sent = send(descriptor, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return false;
    at += sent;
    size -= (size_t)sent;
  }
  return true;
}

/* false with errno 0: the other side closed the connection. */
static bool receive_all(int descriptor, void* data, size_t size, uint64_t deadline)
{
  for (char* at = data; size;) {
    if (!wait_for(descriptor, POLLIN, deadline)) return false;
    ssize_t got = recv(descriptor, at, size, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return errno = got ? errno : 0, false;
    at += got;
    size -= (size_t)got;
  }
  return true;
}

/* A string with its length before it. */
static bool send_text(int descriptor, const char* text, size_t size, uint64_t deadline)
{
  unsigned char length[4] = {
      (unsigned char)size, (unsigned char)(size >> 8), (unsigned char)(size >> 16),
      (unsigned char)(size >> 24)};
  return size <= UINT32_MAX && send_all(descriptor, length, sizeof length, deadline) &&
         send_all(descriptor, text, size, deadline);
}

static bool receive_text(int descriptor, Reply* reply, uint64_t deadline)
{
  unsigned char length[4];
  *reply = (Reply){0};
  if (!receive_all(descriptor, length, sizeof length, deadline)) return false;
  reply->size = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
  if (reply->size > LARGEST_REPLY) return errno = EMSGSIZE, false;
  if (!(reply->text = malloc(reply->size + 1))) return errno = ENOMEM, false;
  if (!receive_all(descriptor, reply->text, reply->size, deadline)) {
    int error = errno;
    free(reply->text);
    reply->text = NULL;
    errno = error;
    return false;
  }
  reply->text[reply->size] = '\0';
  return true;
}

/* ---- the process; with the lock held ---- */

static void stop_locked(bool at_once)
{
  if (!planner) return;
  close(control); /* it ends when it sees that */
  control = -1;
  if (at_once) kill(planner, SIGKILL);
  uint64_t deadline = now_ns() + STOP_TIMEOUT_NS;
  for (pid_t ended; (ended = waitpid(planner, NULL, at_once ? 0 : WNOHANG)) != planner;) {
    if (ended < 0 && errno != EINTR) break;
    if (!at_once && now_ns() >= deadline) {
      kill(planner, SIGKILL);
      at_once = true;
    }
    if (!at_once) poll(NULL, 0, 5);
  }
  planner = 0;
  generation++;
}

static int spawn(pid_t* child, int descriptor)
{
  char* const arguments[] = {"python3", script, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  int failed = posix_spawn_file_actions_init(&actions);
  if (failed) return failed;
  if (!(failed = posix_spawnattr_init(&attributes))) {
    failed = posix_spawn_file_actions_adddup2(&actions, descriptor, CONTROL_DESCRIPTOR);
    if (!failed)
      failed = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!failed) failed = posix_spawnattr_setsigmask(&attributes, &none);
    if (!failed) failed = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!failed) failed = posix_spawnp(child, "python3", &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&actions);
  return failed;
}

static TRITONSERVER_Error* spawn_locked(void)
{
  if (!script) return no_memory("planner.py");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
    return failure(ERROR_INTERNAL, "no socket for planner.py: %s", strerror(errno));
  int failed = spawn(&planner, ends[1]);
  close(ends[1]);
  if (!failed) {
    control = ends[0];
    ready = false;
    idle_since = now_ns();
    return NULL;
  }
  planner = 0;
  close(ends[0]);
  return failure(ERROR_INTERNAL, "python3 does not start: %s", strerror(failed));
}

/* Start it if it is not running, and wait until it is ready: it then says where ONNX Runtime's library is. */
static TRITONSERVER_Error* start_locked(void)
{
  if (!planner) TRY(spawn_locked());
  if (ready) return NULL;
  uint64_t deadline = now_ns() + START_TIMEOUT_NS;
  ssize_t got = -1;
  while (wait_for(control, POLLIN, deadline)) {
    got = recv(control, library, sizeof library - 1, MSG_DONTWAIT);
    if (got >= 0 || (errno != EINTR && errno != EAGAIN)) break;
  }
  if (got > 0) {
    library[got] = '\0';
    ready = true;
    return NULL;
  }
  const char* why = got == 0             ? "it ended"
                    : errno == ETIMEDOUT ? "it was not ready within 60 s"
                                         : strerror(errno);
  TRITONSERVER_Error* error = failure(ERROR_INTERNAL, "planner.py: %s", why);
  stop_locked(true);
  return error;
}

void start_planner(const char* backend_folder)
{
  pthread_mutex_lock(&lock);
  if (asprintf(&script, "%s/planner.py", backend_folder) < 0) script = NULL;
  log_and_drop(spawn_locked()); /* tried again for the first model */
  pthread_mutex_unlock(&lock);
}

/* Hand it one end of a connection, which is closed here; false if it is gone. */
static bool hand_over(int descriptor)
{
  char byte = 0;
  struct iovec payload = {&byte, 1};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } room = {0};
  struct msghdr message = {
      .msg_iov = &payload, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room.bytes};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  uint64_t deadline = now_ns() + START_TIMEOUT_NS;
  bool sent = false;
  while (!sent && wait_for(control, POLLOUT, deadline)) {
    sent = sendmsg(control, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
    if (!sent && errno != EINTR && errno != EAGAIN) break;
  }
  close(descriptor);
  return sent;
}

/* A connection to it; -1 with `unusable` set if it does not start, with an error if something else fails. */
static TRITONSERVER_Error* connect_locked(int* connection)
{
  *connection = -1;
  for (int attempt = 0; attempt < 2 && !unusable; attempt++) {
    TRITONSERVER_Error* error = start_locked();
    if (error) {
      unusable = true;
      return error;
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
      return failure(ERROR_INTERNAL, "no socket for a model: %s", strerror(errno));
    if (hand_over(ends[1])) {
      *connection = ends[0];
      return NULL;
    }
    close(ends[0]);
    stop_locked(true); /* it has died since; another takes its place */
  }
  return NULL;
}

/* ---- one model ---- */

typedef enum { ANSWERED, GONE, STALLED, FAILED } Outcome;

/* Replies are texts whose first letter says what they are: L its limit in seconds, P a plan, Y for the Python
 * half, R refused and why. */
static Outcome converse(
    int connection, const char* version_folder, bool complete, const char* config, size_t config_size,
    Reply* reply)
{
  uint64_t deadline = now_ns() + START_TIMEOUT_NS;
  bool sent = send_text(connection, version_folder, strlen(version_folder), deadline) &&
              send_text(connection, complete ? "1" : "", complete, deadline) &&
              send_text(connection, config, config_size, deadline);
  if (!sent && errno != EPIPE && errno != ECONNRESET) return errno == ETIMEDOUT ? STALLED : FAILED;
  for (;;) {
    if (!receive_text(connection, reply, deadline))
      return errno == 0 || errno == ECONNRESET ? GONE : errno == ETIMEDOUT ? STALLED : FAILED;
    if (*reply->text != 'L') return ANSWERED;
    deadline = now_ns() + GRACE_NS + strtoull(reply->text + 1, NULL, 10) % 1000000 * SECOND_NS;
    free(reply->text);
  }
}

static void for_python(Verdict* verdict, TRITONSERVER_Error* why, const char* model)
{
  *verdict = FOR_PYTHON;
  log_line(
      LOG_WARN, "model '%s': native_plan.py failed (%s), see above; the Python half serves it, slower", model,
      why ? TRITONSERVER_ErrorMessage(why) : "it does not start");
  if (why) TRITONSERVER_ErrorDelete(why);
}

static TRITONSERVER_Error* understand(const char* model, Reply* reply, Verdict* verdict)
{
  char kind = *reply->text;
  if (kind == 'P') {
    *verdict = PLANNED;
    reply->size--;
    memmove(reply->text, reply->text + 1, reply->size + 1);
    return NULL;
  }
  TRITONSERVER_Error* error = NULL;
  if (kind == 'R') {
    *verdict = REFUSED;
    error = failure(ERROR_INVALID_ARG, "model '%s': %s", model, reply->text + 1);
  } else if (kind == 'B') /* broken: our own fault, not the model's */
    for_python(verdict, failure(ERROR_INTERNAL, "%s", reply->text + 1), model);
  else if (kind == 'Y')
    *verdict = FOR_PYTHON;
  else
    error = failure(ERROR_INTERNAL, "model '%s': planner.py gave an answer that cannot be read", model);
  free(reply->text);
  *reply = (Reply){0};
  return error;
}

TRITONSERVER_Error* ask_planner(
    const char* model, const char* version_folder, bool complete, const char* config, size_t config_size,
    Verdict* verdict, Reply* reply)
{
  *reply = (Reply){0};
  for (int attempt = 0;; attempt++) {
    int connection;
    pthread_mutex_lock(&lock);
    TRITONSERVER_Error* error = connect_locked(&connection);
    unsigned talked_to = generation;
    bool without = unusable;
    asking += connection >= 0;
    pthread_mutex_unlock(&lock);
    if (without) return for_python(verdict, error, model), NULL;
    if (error) return error;
    if (connection < 0) return failure(ERROR_INTERNAL, "model '%s': planner.py ended twice", model);

    Outcome outcome = converse(connection, version_folder, complete, config, config_size, reply);
    int why = errno;
    close(connection);
    pthread_mutex_lock(&lock);
    asking--;
    idle_since = now_ns();
    if ((outcome == GONE || outcome == STALLED) && talked_to == generation) stop_locked(true);
    pthread_mutex_unlock(&lock);
    if (outcome == ANSWERED) return understand(model, reply, verdict);
    if (outcome == GONE && !attempt) continue; /* not this model's fault: its reader is another process */
    return failure(
        ERROR_INTERNAL, "model '%s': planner.py %s while it read the graph", model,
        outcome == GONE      ? "ended"
        : outcome == STALLED ? "gave no answer in time"
                             : strerror(why));
  }
}

bool planner_idle(uint64_t now)
{
  pthread_mutex_lock(&lock);
  if (planner && !asking && now - idle_since > IDLE_NS) stop_locked(false);
  bool running = planner;
  pthread_mutex_unlock(&lock);
  return running;
}

void stop_planner(void)
{
  pthread_mutex_lock(&lock);
  stop_locked(false);
  free(script);
  script = NULL;
  pthread_mutex_unlock(&lock);
}
