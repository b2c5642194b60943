/* What large requests took goes back to the system: the arenas of sessions, and what malloc keeps.
 *
 * One thread does that beside the requests, at most once a second, so no request waits for it. It also stops
 * a planner that has nothing to do. */

#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "native.h"

#define SHRINKAGE "memory.enable_memory_arena_shrinkage"
#define CPU_ARENA "cpu:0"

enum {
  LARGE_BYTES = 1 << 20, /* of an execution: what it took is given back although others follow at once */
  /* What malloc keeps at the end of each of its heaps, and from where on it maps blocks one by one. By itself
   * it keeps up to 64 MiB in each of a dozen heaps, which malloc_trim leaves alone. */
  KEPT_BYTES = 2 << 20
};
static const uint64_t idle_ns = 1000000000u;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;
static pthread_t thread;
static bool running, stopping;
static atomic_bool awake; /* whether the thread will look again by itself */
static Instance* instances;

/* ---- one instance ---- */

/* Inputs that fit the graph, as small as may be: they are never read. */
static OrtStatus* smallest_inputs(
    Instance* instance, OrtValue** values, const char** names, void** data, size_t* count)
{
  const Tensors* inputs = &instance->model->inputs;
  for (size_t i = 0; i < inputs->count; i++) {
    const Tensor* tensor = &inputs->tensors[i];
    if (!tensor->fed) continue;
    int64_t* shape = calloc(tensor->rank, sizeof *shape);
    size_t byte_size = tensor->element_size;
    bool fits = shape;
    for (size_t d = 0; d < tensor->rank && fits; d++) {
      shape[d] = tensor->dims[d] < 0 ? 1 : tensor->dims[d];
      fits = !__builtin_mul_overflow(byte_size, (size_t)shape[d], &byte_size);
    }
    OrtStatus* status = NULL;
    if (fits && (data[*count] = calloc(1, byte_size + 1))) { /* not touched, so not there */
      names[*count] = tensor->name;
      status = ort.CreateTensorWithDataAsOrtValue(
          cpu_memory, data[*count], byte_size, shape, tensor->rank, tensor->onnx_type, &values[*count]);
      ++*count;
    }
    free(shape);
    if (status) return status;
  }
  return NULL;
}

/* ONNX Runtime shrinks an arena at the end of a run, while that run's outputs keep their part of it. So this
 * is a run of its own, which computes nothing: it is told to end before it begins. */
static void shrink(Instance* instance)
{
  const Model* model = instance->model;
  size_t room = model->inputs.count, count = 0;
  OrtRunOptions* options = NULL;
  OrtValue **values = calloc(room, sizeof *values), *output = NULL;
  const char** names = calloc(room, sizeof *names);
  void** data = calloc(room, sizeof *data);
  if (values && names && data) {
    OrtStatus* status = smallest_inputs(instance, values, names, data, &count);
    if (!status) status = ort.CreateRunOptions(&options);
    const char* arena = *model->arena_shrinkage ? model->arena_shrinkage : CPU_ARENA;
    if (!status) status = ort.AddRunConfigEntry(options, SHRINKAGE, arena);
    if (!status) status = ort.RunOptionsSetRunLogSeverityLevel(options, LOGGING_FATAL);
    if (!status) status = ort.RunOptionsSetTerminate(options);
    if (!status) {
      status = ort.Run(
          instance->session, options, names, (const OrtValue* const*)values, count,
          &model->outputs.tensors[0].name, 1, &output);
      if (status) ort.ReleaseStatus(status); /* that it was told to end */
    } else
      log_and_drop(ort_failure(model->name, status));
  }
  if (output) ort.ReleaseValue(output);
  for (size_t i = 0; i < count; i++) {
    if (values[i]) ort.ReleaseValue(values[i]);
    free(data[i]);
  }
  if (options) ort.ReleaseRunOptions(options);
  free(values);
  free(names);
  free(data);
}

/* Give back what an instance took, if it is time; whether anything was. `waits`: whether there will be later.
 */
static bool tidy(Instance* instance, uint64_t now, bool* waits)
{
  if (!atomic_exchange(&instance->used, false)) return false;
  bool idle = now - atomic_load(&instance->used_at_ns) >= idle_ns;
  bool large = atomic_load(&instance->largest_bytes) >= LARGE_BYTES;
  bool shrinks = *instance->model->arena_shrinkage;
  bool due = idle || (shrinks && large);
  if (!idle) {
    atomic_store(&instance->used, true); /* look at it again */
    *waits = true;
  }
  if (!due) return false;
  atomic_store(&instance->largest_bytes, 0);
  if (shrinks || (large && instance->model->shrinks_idle)) shrink(instance);
  return shrinks || large;
}

/* ---- the thread ---- */

static void* keep_house(void* unused)
{
  (void)unused;
  pthread_mutex_lock(&lock);
  while (!stopping) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_cond_timedwait(&wake, &lock, &until);
    if (stopping) break;
    atomic_store(&awake, false); /* whatever comes from here on wakes it again */
    uint64_t now = now_ns();
    bool waits = false, gave = false;
    for (Instance* instance = instances; instance; instance = instance->next)
      gave |= tidy(instance, now, &waits);
    pthread_mutex_unlock(&lock);
    if (gave) malloc_trim(0);
    waits |= planner_idle(now);
    pthread_mutex_lock(&lock);
    if (waits) atomic_store(&awake, true);
    while (!stopping && !atomic_load(&awake)) pthread_cond_wait(&wake, &lock);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

static void limit_malloc(void)
{
  if (getenv("MALLOC_TRIM_THRESHOLD_") || getenv("MALLOC_MMAP_THRESHOLD_") || getenv("GLIBC_TUNABLES"))
    return;
  mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
  mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
}

TRITONSERVER_Error* start_housekeeping(void)
{
  limit_malloc();
  pthread_condattr_t attributes;
  if (pthread_condattr_init(&attributes)) return failure(ERROR_INTERNAL, "no condition variable");
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  int failed = pthread_cond_init(&wake, &attributes);
  pthread_condattr_destroy(&attributes);
  stopping = false;
  if (!failed) failed = pthread_create(&thread, NULL, keep_house, NULL);
  running = !failed;
  return failed ? failure(ERROR_INTERNAL, "no thread that gives memory back") : NULL;
}

void wake_housekeeping(void)
{
  if (atomic_exchange(&awake, true)) return; /* it looks again anyhow */
  pthread_mutex_lock(&lock);
  if (running) pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
}

void stop_housekeeping(void)
{
  pthread_mutex_lock(&lock);
  bool was_running = running;
  stopping = true;
  if (running) pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
  if (!was_running) return;
  pthread_join(thread, NULL);
  pthread_cond_destroy(&wake);
  running = false;
}

void look_after(Instance* instance)
{
  pthread_mutex_lock(&lock);
  instance->next = instances;
  if (instances) instances->previous = instance;
  instances = instance;
  pthread_mutex_unlock(&lock);
}

void forget(Instance* instance)
{
  pthread_mutex_lock(&lock);
  if (instance->previous)
    instance->previous->next = instance->next;
  else if (instances == instance)
    instances = instance->next;
  if (instance->next) instance->next->previous = instance->previous;
  pthread_mutex_unlock(&lock);
}

void was_used(Instance* instance, size_t bytes)
{
  if (!*instance->model->arena_shrinkage && bytes < LARGE_BYTES) return; /* it took nothing worth the while */
  if (bytes > atomic_load_explicit(&instance->largest_bytes, memory_order_relaxed))
    atomic_store_explicit(&instance->largest_bytes, bytes, memory_order_relaxed);
  atomic_store_explicit(&instance->used_at_ns, now_ns(), memory_order_relaxed);
  atomic_store(&instance->used, true);
  wake_housekeeping();
}
