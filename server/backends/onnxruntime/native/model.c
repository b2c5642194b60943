/* A model as native_plan.py describes it, and its sessions of ONNX Runtime, one an instance. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native.h"

Ort ort;
OrtMemoryInfo* cpu_memory;
static OrtEnv* environment;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* models load in parallel */

static TRITONSERVER_Error* open_onnxruntime(const Model* model)
{
  if (environment) return NULL;
  void* library = dlopen(model->library, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return failure(
        ERROR_INTERNAL, "model '%s': %s; TRITON_VISION_NATIVE=0 does without", model->name, dlerror());
  const OrtApiBase* (*base)(void);
  *(void**)&base = dlsym(library, "OrtGetApiBase");
  const void* const* functions = base ? base()->GetApi(ORT_API_VERSION) : NULL;
  if (!functions)
    return failure(
        ERROR_INTERNAL, "model '%s': %s has no API %d; TRITON_VISION_NATIVE=0 does without", model->name,
        model->library, ORT_API_VERSION);
#define TAKE(function, place, result, arguments) *(const void**)&ort.function = functions[place];
  ORT_FUNCTIONS(TAKE)
#undef TAKE
  TRY(ort_failure(model, ort.CreateCpuMemoryInfo(ALLOCATOR_DEVICE, MEMORY_DEFAULT, &cpu_memory)));
  return ort_failure(model, ort.CreateEnv(LOGGING_WARNING, "onnxruntime", &environment));
}

static TRITONSERVER_Error* add_tensor(const char* model, char* value, Tensor** tensors, size_t* count)
{
  static const struct {
    const char* name;
    int triton_type, onnx_type;
    size_t size;
  } types[] = {
#define ROW(name, triton, onnx, size) {name, triton, onnx, size},
      ELEMENT_TYPES(ROW)
#undef ROW
  };
  char* name = strchr(value, ' ');
  if (name) *name++ = '\0';
  for (size_t i = 0; name && i < sizeof types / sizeof *types; i++) {
    if (strcmp(types[i].name, value)) continue;
    *tensors = realloc(*tensors, (*count + 1) * sizeof **tensors);
    (*tensors)[(*count)++] = (Tensor){name, types[i].triton_type, types[i].onnx_type, types[i].size};
    return NULL;
  }
  return failure(ERROR_INTERNAL, "model '%s': native_plan.py gave a tensor of type %s", model, value);
}

static TRITONSERVER_Error* read_line(Model* model, char* key, char* value)
{
  const struct {
    const char* key;
    long* number;
  } numbers[] = {
      {"max_batch_size", &model->max_batch_size}, {"items_at_once", &model->items_at_once},
      {"graph_level", &model->graph_level},       {"execution_mode", &model->execution_mode},
      {"intra_op", &model->intra_op},             {"inter_op", &model->inter_op},
      {"mem_arena", &model->mem_arena},           {"mem_pattern", &model->mem_pattern},
      {"nice", &model->nice},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (!strcmp(key, numbers[i].key)) {
      *numbers[i].number = strtol(value, NULL, 10);
      return NULL;
    }
  if (!strcmp(key, "library")) model->library = value;
  else if (!strcmp(key, "graph")) model->graph = value;
  else if (!strcmp(key, "input"))
    return add_tensor(model->name, value, &model->inputs, &model->input_count);
  else if (!strcmp(key, "output"))
    return add_tensor(model->name, value, &model->outputs, &model->output_count);
  else
    return failure(ERROR_INTERNAL, "model '%s': native_plan.py gave the unknown line '%s'", model->name, key);
  return NULL;
}

/* `plan`: lines of a key and a value; the model owns it from now on. */
TRITONSERVER_Error* new_model(TRITONBACKEND_Model* triton, const char* name, char* plan, Model** result)
{
  Model* model = *result = calloc(1, sizeof *model);
  model->triton = triton;
  model->name = strdup(name);
  model->text = plan;
  char* rest = plan;
  for (char* line; (line = strtok_r(rest, "\n", &rest));) {
    char* value = strchr(line, ' ');
    if (value) *value++ = '\0';
    TRY(read_line(model, line, value ? value : ""));
  }
  if (!model->library || !model->graph)
    return failure(ERROR_INTERNAL, "model '%s': native_plan.py gave no library or no graph", name);
  pthread_mutex_lock(&opening);
  TRITONSERVER_Error* error = open_onnxruntime(model);
  pthread_mutex_unlock(&opening);
  return error;
}

void free_model(Model* model)
{
  free(model->inputs);
  free(model->outputs);
  free(model->text);
  free(model->name);
  free(model);
  malloc_trim(0); /* its sessions' weights go back to the system, and do not wait for the next model */
}

void take_priority(const Model* model)
{
  setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), (int)model->nice);
}

static OrtStatus* set_options(const Model* model, OrtSessionOptions* options)
{
  OrtStatus* status = ort.SetSessionLogId(options, model->name);
  if (!status) status = ort.SetSessionGraphOptimizationLevel(options, (int)model->graph_level);
  if (!status) status = ort.SetSessionExecutionMode(options, (int)model->execution_mode);
  if (!status) status = ort.SetIntraOpNumThreads(options, (int)model->intra_op);
  if (!status) status = ort.SetInterOpNumThreads(options, (int)model->inter_op);
  if (!status && !model->mem_arena) status = ort.DisableCpuMemArena(options);
  if (!status && !model->mem_pattern) status = ort.DisableMemPattern(options);
  return status;
}

/* A thread's work: ONNX Runtime's own threads take the priority of the one that makes their session. */
static void* create_session(void* argument)
{
  Instance* instance = argument;
  const Model* model = instance->model;
  take_priority(model);
  OrtSessionOptions* options;
  OrtStatus* status = ort.CreateSessionOptions(&options);
  if (!status) {
    status = set_options(model, options);
    if (!status) status = ort.CreateSession(environment, model->graph, options, &instance->session);
    ort.ReleaseSessionOptions(options);
  }
  return ort_failure(model, status);
}

TRITONSERVER_Error* new_instance(Model* model, Instance** result)
{
  Instance* instance = *result = calloc(1, sizeof *instance);
  instance->model = model;
  instance->joined = calloc(model->input_count + 1, sizeof *instance->joined);
  pthread_t thread;
  void* error;
  if (pthread_create(&thread, NULL, create_session, instance) || pthread_join(thread, &error))
    return failure(ERROR_INTERNAL, "model '%s': no thread to load it", model->name);
  return error;
}

void free_instance(Instance* instance)
{
  for (size_t i = 0; i < instance->model->input_count; i++) free(instance->joined[i].data);
  if (instance->session) ort.ReleaseSession(instance->session);
  free(instance->joined);
  free(instance);
}
