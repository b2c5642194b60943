/* What the files of this folder share: a model, an instance of it, and how both report failures. */

#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "onnxruntime.h"
#include "triton.h"

#define TRY(call)                           \
  do {                                      \
    TRITONSERVER_Error* try_error = (call); \
    if (try_error) return try_error;        \
  } while (0)

typedef struct {
  const char* name; /* UTF-8 without control characters */
  int triton_type, onnx_type;
  size_t element_size, rank;
  int64_t* dims;   /* of an input: `rank` of them, as its first session reports them; -1: open */
  int64_t* bounds; /* of an input: the largest size of each axis that is served; -1: any */
  bool fed;        /* an input of the graph, not an initializer that may be overridden */
  bool seen;       /* while a session is compared: it has this tensor */
} Tensor;

/* Tensors in the order of the plan, and by name. */
typedef struct {
  Tensor* tensors;
  Tensor** sorted;
  size_t count;
} Tensors;

/* What native_plan.py says of a model; its strings lie in `text`, and are data whatever they hold. */
typedef struct Model {
  struct Model* next;
  TRITONBACKEND_Model* triton;
  char *name, *text;
  const char *graph, *completed, *arena_shrinkage; /* "" where there is nothing to complete or to shrink */
  int64_t shrinks_idle; /* whether the arena of a large batch is shrunk, once nothing has come for a while */
  int64_t max_batch_size, items_at_once, nice;
  int64_t graph_level, execution_mode, intra_op, inter_op, mem_arena, mem_pattern; /* of its sessions */
  Tensors inputs, outputs;
  size_t largest_rank; /* of an input */
  bool described;      /* whether the inputs' dims are known */
} Model;

typedef struct {
  void* data;
  size_t size;
} Block;

/* An output of an execution. row: the bytes of one item, or of all where the model does not batch. */
typedef struct {
  const Tensor* tensor;
  char* data;
  int64_t* shape;
  size_t dims_count, shape_room, row;
} Result;

typedef struct Instance {
  struct Instance *next, *previous; /* of those that are looked after (memory.c) */
  Model* model;
  OrtSession* session;
  bool nice; /* whether its thread has the model's priority yet */

  /* of the execution under way; as many as the model has inputs or outputs */
  Block* joined; /* one an input: where the requests of a batch are put together */
  const char **input_names, **output_names;
  OrtValue **input_values, **output_values;
  Result* results;
  int64_t* shape; /* of a batch's input */

  /* since its memory was last given back */
  _Atomic size_t largest_bytes; /* of an execution's inputs and outputs */
  _Atomic uint64_t used_at_ns;
  _Atomic bool used;
} Instance;

extern Ort ort;
extern OrtMemoryInfo* cpu_memory;

/* triton.c */
TRITONSERVER_Error* check_triton(void); /* whether this server is one that triton.h describes */

/* planner.c: native_plan.py in a process of its own, one for all models */
typedef struct {
  char* text; /* the caller frees it */
  size_t size;
} Reply;
typedef enum { PLANNED, FOR_PYTHON, REFUSED } Verdict;
void start_planner(const char* backend_folder); /* and do not wait until it is ready */
/* What is to become of a model, and its plan. `complete`: whether the plan may fill in the configuration. */
TRITONSERVER_Error* ask_planner(
    const char* model, const char* version_folder, bool complete, const char* config, size_t config_size,
    Verdict*, Reply*);
const char* onnxruntime_library(void);
bool planner_idle(
    uint64_t now); /* stops one that has had nothing to do for long; whether one is running still */
void stop_planner(void);

/* plan.c */
TRITONSERVER_Error* read_plan(Model*, const char* plan, size_t size);
void free_plan(Model*);
Tensor* find_tensor(const Tensors*, const char* name); /* NULL if there is none */

/* session.c */
TRITONSERVER_Error* open_onnxruntime(const char* model);
void close_onnxruntime(void);
TRITONSERVER_Error* open_session(Instance*);
void take_priority(const Model*); /* for the calling thread */
TRITONSERVER_Error* ort_failure(const char* model, OrtStatus*); /* NULL if there is none */

/* model.c */
TRITONSERVER_Error* new_model(TRITONBACKEND_Model*, const char* name, Reply plan, Model**);
void free_model(Model*);
TRITONSERVER_Error* new_instance(Model*, Instance**);
void free_instance(Instance*);

/* execute.c; an error: nothing was done, and the requests are still tritonserver's */
TRITONSERVER_Error* execute(Instance*, TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**, uint32_t count);

/* memory.c: what requests took goes back to the system, by a thread that has the time */
TRITONSERVER_Error* start_housekeeping(void);
void look_after(Instance*);
void forget(Instance*);
void was_used(Instance*, size_t bytes);
void wake_housekeeping(void);
void stop_housekeeping(void);

/* failures.c */
#define PRINTF __attribute__((format(printf, 2, 3)))
TRITONSERVER_Error* failure(int code, const char* format, ...) PRINTF;
TRITONSERVER_Error* no_memory(const char* model);
void log_line(int level, const char* format, ...) PRINTF;
void log_and_drop(TRITONSERVER_Error*);
bool readable(const char*); /* UTF-8 without control characters, and not empty */
uint64_t now_ns(void);
