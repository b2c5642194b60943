/* ONNX Runtime: opened once, and a session for each instance, compared with the plan of its model; and what it
 * says when it fails. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native.h"

enum { STACK_BYTES = 16 << 20 }; /* twice a main thread's, in which the planner read the same graph */

Ort ort;
OrtMemoryInfo* cpu_memory;
static OrtEnv* environment;
static OrtAllocator* allocator;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;   /* models load in parallel */
static pthread_mutex_t comparing = PTHREAD_MUTEX_INITIALIZER; /* and so do the instances of one */

/* In the words of the exception that ONNX Runtime's Python package raises. */
TRITONSERVER_Error* ort_failure(const char* model, OrtStatus* status)
{
  static const char* const names[] = {
      "OK",           "FAIL",            "INVALID_ARGUMENT",  "NO_SUCHFILE",
      "NO_MODEL",     "ENGINE_ERROR",    "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
      "MODEL_LOADED", "NOT_IMPLEMENTED", "INVALID_GRAPH",     "EP_FAIL"};
  if (!status) return NULL;
  size_t code = (size_t)ort.GetErrorCode(status);
  TRITONSERVER_Error* error = failure(
      ERROR_INTERNAL, "model '%s': [ONNXRuntimeError] : %zu : %s : %s", model, code,
      code < sizeof names / sizeof *names ? names[code] : "UNKNOWN", ort.GetErrorMessage(status));
  ort.ReleaseStatus(status);
  return error;
}

static TRITONSERVER_Error* open_locked(const char* model)
{
  if (environment) return NULL;
  const char* path = onnxruntime_library();
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return failure(ERROR_INTERNAL, "model '%s': %s; TRITON_VISION_NATIVE=0 does without", model, dlerror());
  const OrtApiBase* (*base)(void);
  *(void**)&base = dlsym(library, "OrtGetApiBase");
  const OrtApiBase* found = base ? base() : NULL;
  const void* const* functions = found && found->GetApi ? found->GetApi(ORT_API_VERSION) : NULL;
  if (!functions)
    return failure(
        ERROR_INTERNAL,
        "model '%s': %s has no API %d (ONNX Runtime 1.%d); TRITON_VISION_NATIVE=0 does without", model, path,
        ORT_API_VERSION, ORT_API_VERSION);
#define TAKE(function, place, result, arguments) *(const void**)&ort.function = functions[place];
  ORT_FUNCTIONS(TAKE)
#undef TAKE
  if (!cpu_memory)
    TRY(ort_failure(model, ort.CreateCpuMemoryInfo(ALLOCATOR_DEVICE, MEMORY_DEFAULT, &cpu_memory)));
  TRY(ort_failure(model, ort.GetAllocatorWithDefaultOptions(&allocator))); /* ONNX Runtime's own: not freed */
  return ort_failure(model, ort.CreateEnv(LOGGING_WARNING, "onnxruntime", &environment));
}

TRITONSERVER_Error* open_onnxruntime(const char* model)
{
  pthread_mutex_lock(&opening);
  TRITONSERVER_Error* error = open_locked(model);
  pthread_mutex_unlock(&opening);
  return error;
}

void close_onnxruntime(void)
{
  if (cpu_memory) ort.ReleaseMemoryInfo(cpu_memory);
  if (environment) ort.ReleaseEnv(environment);
  cpu_memory = NULL;
  environment = NULL;
}

/* ---- what a session says of its tensors ---- */

typedef struct {
  const char* kind;
  OrtStatus* (*count)(const OrtSession*, size_t*);
  OrtStatus* (*name)(const OrtSession*, size_t, OrtAllocator*, char**);
  OrtStatus* (*type)(const OrtSession*, size_t, OrtTypeInfo**);
} Section;

static TRITONSERVER_Error* compare(
    const char* model, const char* kind, Tensor* tensor, bool described, const OrtTypeInfo* type)
{
  const OrtShape* shape = NULL; /* the type's */
  int element_type = 0;
  size_t rank = 0;
  TRY(ort_failure(model, ort.CastTypeInfoToTensorInfo(type, &shape)));
  if (shape) {
    TRY(ort_failure(model, ort.GetTensorElementType(shape, &element_type)));
    TRY(ort_failure(model, ort.GetDimensionsCount(shape, &rank)));
  }
  if (!shape || element_type != tensor->onnx_type || rank != tensor->rank)
    return failure(
        ERROR_INTERNAL,
        "model '%s': %s '%s' is of another type or rank than when the graph was looked at (element type %d, "
        "%zu "
        "dimensions; expected %d, %zu): was the file replaced meanwhile? Load the model again",
        model, kind, tensor->name, element_type, rank, tensor->onnx_type, tensor->rank);
  return tensor->dims && !described ? ort_failure(model, ort.GetDimensions(shape, tensor->dims, rank)) : NULL;
}

/* Compare each tensor of the plan that this section of the session has; `found` counts them. */
static TRITONSERVER_Error* compare_section(
    const Instance* instance, Section section, const Tensors* tensors, bool fed, size_t* found)
{
  const char* model = instance->model->name;
  bool described = instance->model->described;
  size_t count = 0;
  TRY(ort_failure(model, section.count(instance->session, &count)));
  for (size_t i = 0; i < count; i++) {
    char* name = NULL;
    TRY(ort_failure(model, section.name(instance->session, i, allocator, &name)));
    Tensor* tensor = find_tensor(tensors, name);
    TRITONSERVER_Error* freed = ort_failure(model, ort.AllocatorFree(allocator, name));
    if (freed) return freed;
    if (!tensor) continue; /* an output that nobody configured */
    OrtTypeInfo* type = NULL;
    TRY(ort_failure(model, section.type(instance->session, i, &type)));
    TRITONSERVER_Error* error = compare(model, section.kind, tensor, described, type);
    ort.ReleaseTypeInfo(type);
    if (error) return error;
    if (!described) tensor->fed = fed;
    if (tensor->seen) continue; /* an output may be listed twice */
    tensor->seen = true;
    ++*found;
  }
  return NULL;
}

static TRITONSERVER_Error* compare_session(const Instance* instance)
{
  Model* model = instance->model;
  const Section
      inputs = {"input", ort.SessionGetInputCount, ort.SessionGetInputName, ort.SessionGetInputTypeInfo},
      overridable =
          {"input", ort.SessionGetOverridableInitializerCount, ort.SessionGetOverridableInitializerName,
           ort.SessionGetOverridableInitializerTypeInfo},
      outputs = {"output", ort.SessionGetOutputCount, ort.SessionGetOutputName, ort.SessionGetOutputTypeInfo};
  size_t found = 0;
  for (size_t i = 0; i < model->inputs.count; i++) model->inputs.tensors[i].seen = false;
  for (size_t i = 0; i < model->outputs.count; i++) model->outputs.tensors[i].seen = false;
  TRY(compare_section(instance, inputs, &model->inputs, true, &found));
  TRY(compare_section(instance, overridable, &model->inputs, false, &found));
  TRY(compare_section(instance, outputs, &model->outputs, false, &found));
  model->described = true;
  if (found == model->inputs.count + model->outputs.count) return NULL;
  return failure(
      ERROR_INTERNAL,
      "model '%s': the graph has %zu of the %zu tensors that it had when it was looked at: was the file "
      "replaced "
      "meanwhile? Load the model again",
      model->name, found, model->inputs.count + model->outputs.count);
}

/* ---- opening one ---- */

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

void take_priority(const Model* model)
{
  /* A process that may not raise its priority goes on with the one that it has. */
  (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), (int)model->nice);
}

/* A thread's work: ONNX Runtime's own threads take the priority of the one that makes their session. */
static void* create_session(void* argument)
{
  Instance* instance = argument;
  const Model* model = instance->model;
  take_priority(model);
  OrtSessionOptions* options = NULL;
  OrtStatus* status = ort.CreateSessionOptions(&options);
  if (!status) {
    status = set_options(model, options);
    if (!status) status = ort.CreateSession(environment, model->graph, options, &instance->session);
    ort.ReleaseSessionOptions(options);
  }
  return ort_failure(model->name, status);
}

TRITONSERVER_Error* open_session(Instance* instance)
{
  pthread_attr_t attributes;
  pthread_t thread;
  void* error = NULL;
  int failed = pthread_attr_init(&attributes);
  if (!failed) {
    failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (!failed) failed = pthread_create(&thread, &attributes, create_session, instance);
    pthread_attr_destroy(&attributes);
  }
  if (failed || pthread_join(thread, &error))
    return failure(
        ERROR_INTERNAL, "model '%s': no thread to load it: %s", instance->model->name, strerror(failed));
  TRY(error);
  pthread_mutex_lock(&comparing);
  error = compare_session(instance);
  pthread_mutex_unlock(&comparing);
  return error;
}
