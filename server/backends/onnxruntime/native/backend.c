/* ONNX Runtime in tritonserver's own process, for the models that need nothing else (docs/decisions/0014).
 *
 * tritonserver loads this library for each model with `backend: "onnxruntime"`. native_plan.py says of each
 * whether it is served here or by the Python half (model.py); all calls for the latter go on to Triton's
 * Python backend. So what a config.pbtxt means is written once, in Python, and both halves answer alike.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))
#define PYTHON_BACKEND "/../python/libtriton_python.so"
#define PLANNER "/native_plan.py"
#define INCOMPLETE "incomplete\n" /* what it says of a configuration without inputs or outputs */

extern char** environ;

/* Triton's Python backend, which serves the models that are not served here. */
#define PYTHON_FUNCTIONS(F)                                                              \
  F(Initialize, (TRITONBACKEND_Backend*))                                                \
  F(Finalize, (TRITONBACKEND_Backend*))                                                  \
  F(GetBackendAttribute, (TRITONBACKEND_Backend*, TRITONBACKEND_BackendAttribute*))      \
  F(ModelInitialize, (TRITONBACKEND_Model*))                                             \
  F(ModelFinalize, (TRITONBACKEND_Model*))                                               \
  F(ModelInstanceInitialize, (TRITONBACKEND_ModelInstance*))                             \
  F(ModelInstanceFinalize, (TRITONBACKEND_ModelInstance*))                               \
  F(ModelInstanceExecute, (TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**, uint32_t))

static struct {
#define DECLARE_FUNCTION(name, arguments) TRITONSERVER_Error* (*name) arguments;
  PYTHON_FUNCTIONS(DECLARE_FUNCTION)
#undef DECLARE_FUNCTION
} python;

static char* folder; /* of this backend's files */

static Model* models; /* those that are served here */
static pthread_mutex_t models_lock = PTHREAD_MUTEX_INITIALIZER;

/* The model if it is served here, else NULL. */
static Model* native(TRITONBACKEND_Model* triton)
{
  pthread_mutex_lock(&models_lock);
  Model* model = models;
  while (model && model->triton != triton) model = model->next;
  pthread_mutex_unlock(&models_lock);
  return model;
}

static Model* native_of_instance(TRITONBACKEND_ModelInstance* instance)
{
  TRITONBACKEND_Model* model = NULL;
  log_and_drop(TRITONBACKEND_ModelInstanceModel(instance, &model));
  return native(model);
}

/* ---- what native_plan.py says ---- */

static char* path_to(const char* file)
{
  char* path = malloc(strlen(folder) + strlen(file) + 1);
  return strcat(strcpy(path, folder), file);
}

static char* read_all(int descriptor)
{
  size_t size = 0, room = 4096;
  char* text = malloc(room);
  for (ssize_t got; (got = read(descriptor, text + size, room - size - 1)) > 0;) {
    size += (size_t)got;
    if (size + 1 == room) text = realloc(text, room *= 2);
  }
  text[size] = '\0';
  return text;
}

/* Run native_plan.py: it reads the configuration first, and only then writes. NULL if it failed. */
static char* plan_of(const char* version_folder, const char* config, size_t config_size)
{
  int in[2], out[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in)) return NULL; /* a pipe could raise SIGPIPE */
  if (pipe2(out, O_CLOEXEC)) return close(in[0]), close(in[1]), NULL;
  char* planner = path_to(PLANNER);
  char* const arguments[] = {"python3", planner, (char*)version_folder, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  pid_t child;
  int failed = posix_spawnp(&child, "python3", &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  free(planner);
  close(in[0]);
  close(out[1]);
  char* text = NULL;
  if (!failed) {
    for (size_t done = 0; done < config_size;) {
      ssize_t put = send(in[1], config + done, config_size - done, MSG_NOSIGNAL);
      if (put <= 0) break;
      done += (size_t)put;
    }
    close(in[1]);
    text = read_all(out[0]);
    int status = 0;
    if (waitpid(child, &status, 0) != child || status) {
      free(text);
      text = NULL;
    }
  } else
    close(in[1]);
  close(out[0]);
  return text;
}

static TRITONSERVER_Error* plan_for(TRITONBACKEND_Model* model, char** plan)
{
  int type;
  uint64_t version;
  const char *repository, *config;
  size_t config_size;
  TRITONSERVER_Message* message;
  TRY(TRITONBACKEND_ModelVersion(model, &version));
  TRY(TRITONBACKEND_ModelRepository(model, &type, &repository));
  TRY(TRITONBACKEND_ModelConfig(model, 1, &message));
  TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &config, &config_size);
  if (!error) {
    char* version_folder = malloc(strlen(repository) + 32);
    sprintf(version_folder, "%s/%llu", repository, (unsigned long long)version);
    *plan = plan_of(version_folder, config, config_size);
    free(version_folder);
  }
  TRITONSERVER_MessageDelete(message);
  return error;
}

/* ---- what tritonserver calls ---- */

EXPORT TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* backend)
{
  int type;
  const char* location;
  TRY(TRITONBACKEND_BackendArtifacts(backend, &type, &location));
  folder = strdup(location);
  char* path = path_to(PYTHON_BACKEND);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  free(path);
  if (!library)
    return failure(
        ERROR_INTERNAL, "Triton's Python backend does not load: %s; try `make clean setup`", dlerror());
#define FIND_FUNCTION(name, arguments)                                                             \
  *(void**)&python.name = dlsym(library, "TRITONBACKEND_" #name);                                  \
  if (!python.name) return failure(ERROR_INTERNAL, "Triton's Python backend has no " #name);
  PYTHON_FUNCTIONS(FIND_FUNCTION)
#undef FIND_FUNCTION
  return python.Initialize(backend);
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend* backend)
{
  return python.Finalize(backend);
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(
    TRITONBACKEND_Backend* backend, TRITONBACKEND_BackendAttribute* attributes)
{
  return python.GetBackendAttribute(backend, attributes);
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* triton)
{
  char* plan = NULL;
  const char* name;
  Model* model;
  TRY(TRITONBACKEND_ModelName(triton, &name));
  TRY(plan_for(triton, &plan));
  if (plan && !strcmp(plan, INCOMPLETE)) { /* the Python half completes it; then look again */
    free(plan);
    TRY(python.ModelInitialize(triton));
    TRY(plan_for(triton, &plan));
    if (!plan || !*plan || !strcmp(plan, INCOMPLETE)) return free(plan), NULL;
    TRY(python.ModelFinalize(triton));
  }
  if (!plan)
    log_line(LOG_WARN, "model '%s': native_plan.py failed, see above; the Python half serves it, slower", name);
  if (!plan || !*plan) { /* model.py serves it, or tells what is wrong with it */
    free(plan);
    return python.ModelInitialize(triton);
  }
  TRITONSERVER_Error* error = new_model(triton, name, plan, &model);
  if (error) {
    free_model(model);
    return error;
  }
  log_line(LOG_INFO, "model '%s' is served by ONNX Runtime in this process", name);
  pthread_mutex_lock(&models_lock);
  model->next = models;
  models = model;
  pthread_mutex_unlock(&models_lock);
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* triton)
{
  Model* model = native(triton);
  if (!model) return python.ModelFinalize(triton);
  pthread_mutex_lock(&models_lock);
  Model** link = &models;
  while (*link != model) link = &(*link)->next;
  *link = model->next;
  pthread_mutex_unlock(&models_lock);
  free_model(model);
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* triton)
{
  Model* model = native_of_instance(triton);
  if (!model) return python.ModelInstanceInitialize(triton);
  Instance* instance;
  TRITONSERVER_Error* error = new_instance(model, &instance);
  if (!error) error = TRITONBACKEND_ModelInstanceSetState(triton, instance);
  if (error) free_instance(instance);
  return error;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* triton)
{
  if (!native_of_instance(triton)) return python.ModelInstanceFinalize(triton);
  void* instance;
  TRY(TRITONBACKEND_ModelInstanceState(triton, &instance));
  if (instance) free_instance(instance);
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* triton, TRITONBACKEND_Request** requests, const uint32_t count)
{
  if (!native_of_instance(triton)) return python.ModelInstanceExecute(triton, requests, count);
  void* instance;
  TRY(TRITONBACKEND_ModelInstanceState(triton, &instance));
  execute(instance, triton, requests, count);
  return NULL;
}
