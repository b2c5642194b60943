/* ONNX Runtime in tritonserver's own process, for the models that need nothing else (docs/decisions/0014,
 * 0020).
 *
 * tritonserver loads this library for each model with `backend: "onnxruntime"`. native_plan.py says of each
 * whether it is served here or by the Python half (model.py); all calls for the latter go on to Triton's
 * Python backend. So what a config.pbtxt means is written once, in Python, and both halves answer alike. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))

/* Triton's Python backend, which serves the models that are not served here. */
#define PYTHON_FUNCTIONS(F)                                                         \
  F(Initialize, (TRITONBACKEND_Backend*))                                           \
  F(Finalize, (TRITONBACKEND_Backend*))                                             \
  F(GetBackendAttribute, (TRITONBACKEND_Backend*, TRITONBACKEND_BackendAttribute*)) \
  F(ModelInitialize, (TRITONBACKEND_Model*))                                        \
  F(ModelFinalize, (TRITONBACKEND_Model*))                                          \
  F(ModelInstanceInitialize, (TRITONBACKEND_ModelInstance*))                        \
  F(ModelInstanceFinalize, (TRITONBACKEND_ModelInstance*))                          \
  F(ModelInstanceExecute, (TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**, uint32_t))

static struct {
#define DECLARE_FUNCTION(name, arguments) TRITONSERVER_Error* (*name) arguments;
  PYTHON_FUNCTIONS(DECLARE_FUNCTION)
#undef DECLARE_FUNCTION
} python;

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

static TRITONSERVER_Error* native_of_instance(TRITONBACKEND_ModelInstance* instance, Model** model)
{
  TRITONBACKEND_Model* triton = NULL;
  TRY(TRITONBACKEND_ModelInstanceModel(instance, &triton));
  *model = native(triton);
  return NULL;
}

/* ---- the backend ---- */

static TRITONSERVER_Error* open_python_backend(const char* folder)
{
  char* path = NULL;
  if (asprintf(&path, "%s/../python/libtriton_python.so", folder) < 0)
    return failure(ERROR_INTERNAL, "there is no memory left");
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  free(path);
  if (!library)
    return failure(
        ERROR_INTERNAL, "Triton's Python backend does not load: %s; try `make clean setup`", dlerror());
#define FIND_FUNCTION(name, arguments)                            \
  *(void**)&python.name = dlsym(library, "TRITONBACKEND_" #name); \
  if (!python.name) return failure(ERROR_INTERNAL, "Triton's Python backend has no " #name);
  PYTHON_FUNCTIONS(FIND_FUNCTION)
#undef FIND_FUNCTION
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* backend)
{
  int type;
  const char* folder;
  TRY(check_triton());
  TRY(TRITONBACKEND_BackendArtifacts(backend, &type, &folder));
  TRY(open_python_backend(folder));
  TRY(python.Initialize(backend));
  start_planner(folder);
  return start_housekeeping();
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend* backend)
{
  stop_housekeeping();
  stop_planner();
  close_onnxruntime();
  return python.Finalize ? python.Finalize(backend) : NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(
    TRITONBACKEND_Backend* backend, TRITONBACKEND_BackendAttribute* attributes)
{
  return python.GetBackendAttribute(backend, attributes);
}

/* ---- models ---- */

static TRITONSERVER_Error* plan_for(
    TRITONBACKEND_Model* triton, const char* name, Verdict* verdict, Reply* plan)
{
  int type;
  uint64_t version;
  bool complete;
  const char *repository, *config;
  size_t config_size;
  TRITONSERVER_Message* message;
  TRY(TRITONBACKEND_ModelVersion(triton, &version));
  TRY(TRITONBACKEND_ModelRepository(triton, &type, &repository));
  TRY(TRITONBACKEND_ModelAutoCompleteConfig(triton, &complete));
  TRY(TRITONBACKEND_ModelConfig(triton, 1, &message));
  TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &config, &config_size);
  char* version_folder = NULL;
  if (!error && asprintf(&version_folder, "%s/%llu", repository, (unsigned long long)version) < 0)
    error = no_memory(name);
  else if (!error) {
    error = ask_planner(name, version_folder, complete, config, config_size, verdict, plan);
    wake_housekeeping(); /* which stops the planner, once it has had nothing to do for long */
    free(version_folder);
  }
  log_and_drop(TRITONSERVER_MessageDelete(message));
  return error;
}

static TRITONSERVER_Error* complete_configuration(const Model* model)
{
  if (!*model->completed) return NULL;
  TRITONSERVER_Message* message;
  TRY(TRITONSERVER_MessageNewFromSerializedJson(&message, model->completed, strlen(model->completed)));
  TRITONSERVER_Error* error = TRITONBACKEND_ModelSetConfig(model->triton, 1, message);
  log_and_drop(TRITONSERVER_MessageDelete(message));
  return error;
}

/* A model belongs to one half from the start: either all calls for it go to the Python backend, or none does.
 * tritonserver finalises it whether this succeeds or not. */
EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* triton)
{
  Reply plan;
  Verdict verdict;
  const char* name;
  Model* model;
  TRY(TRITONBACKEND_ModelName(triton, &name));
  TRY(plan_for(triton, name, &verdict, &plan));
  if (verdict == FOR_PYTHON) return python.ModelInitialize(triton);
  TRITONSERVER_Error* error = new_model(triton, name, plan, &model);
  free(plan.text);
  if (!error) error = complete_configuration(model);
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
  if (!model)
    return python.ModelFinalize(triton); /* of one that was never initialised it has nothing to finalise */
  pthread_mutex_lock(&models_lock);
  Model** link = &models;
  while (*link != model) link = &(*link)->next;
  *link = model->next;
  pthread_mutex_unlock(&models_lock);
  free_model(model);
  return NULL;
}

/* ---- instances ---- */

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* triton)
{
  Model* model;
  TRY(native_of_instance(triton, &model));
  if (!model) return python.ModelInstanceInitialize(triton);
  Instance* instance;
  TRITONSERVER_Error* error = new_instance(model, &instance);
  if (!error) error = TRITONBACKEND_ModelInstanceSetState(triton, instance);
  if (error) free_instance(instance);
  return error;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* triton)
{
  Model* model;
  void* instance = NULL;
  TRY(native_of_instance(triton, &model));
  if (!model) return python.ModelInstanceFinalize(triton);
  TRY(TRITONBACKEND_ModelInstanceState(triton, &instance));
  free_instance(instance);
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* triton, TRITONBACKEND_Request** requests, const uint32_t count)
{
  Model* model;
  void* instance = NULL;
  TRY(native_of_instance(triton, &model));
  if (!model) return python.ModelInstanceExecute(triton, requests, count);
  TRY(TRITONBACKEND_ModelInstanceState(triton, &instance));
  if (!instance) return failure(ERROR_INTERNAL, "model '%s': an instance that was never made", model->name);
  return execute(instance, triton, requests, count);
}
