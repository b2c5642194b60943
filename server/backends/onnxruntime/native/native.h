/* What the files of this folder share: a model, an instance of it, and how both report failures. */

#pragma once

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
  const char* name;
  int triton_type, onnx_type;
  size_t element_size;
} Tensor;

/* A model as native_plan.py describes it; the strings lie in `text`. */
typedef struct Model {
  struct Model* next;
  TRITONBACKEND_Model* triton;
  char *name, *text;
  const char *library, *graph;
  long max_batch_size, items_at_once, nice;
  long graph_level, execution_mode, intra_op, inter_op, mem_arena, mem_pattern; /* of its sessions */
  Tensor *inputs, *outputs;
  size_t input_count, output_count;
} Model;

typedef struct {
  void* data;
  size_t size;
} Block;

typedef struct {
  Model* model;
  OrtSession* session;
  Block* joined; /* one an input: where the requests of a batch are put together */
  bool nice;     /* whether its thread has the model's priority yet */
} Instance;

extern Ort ort;
extern OrtMemoryInfo* cpu_memory;

/* model.c */
TRITONSERVER_Error* new_model(TRITONBACKEND_Model*, const char* name, char* plan, Model**);
void free_model(Model*);
TRITONSERVER_Error* new_instance(Model*, Instance**);
void free_instance(Instance*);
void take_priority(const Model*); /* for the calling thread */

/* execute.c */
void execute(Instance*, TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request**, uint32_t count);

/* failures.c */
TRITONSERVER_Error* failure(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));
TRITONSERVER_Error* ort_failure(const Model*, OrtStatus*); /* NULL if there is none */
void log_line(int level, const char* format, const char* name); /* with the name in place of %s */
void log_and_drop(TRITONSERVER_Error*);
