/* The plan of a model: fields of a fixed order, each a number or a string with its length before it. So
 * nothing that a file's author may choose, such as a tensor's name, can be taken for anything else
 * (native_plan.py writes them). */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

enum { LARGEST_RANK = 1024 };

typedef struct {
  const char* model;
  char* out; /* where the strings go, with an end each */
  const char *at, *end;
  const char* wrong; /* the first thing that is; everything read after it is empty */
} Reader;

static uint64_t unsigned_number(Reader* reader, size_t size)
{
  uint64_t number = 0;
  if (!reader->wrong && (size_t)(reader->end - reader->at) < size) reader->wrong = "it ends early";
  if (reader->wrong) return 0;
  for (size_t i = 0; i < size; i++) number |= (uint64_t)(unsigned char)reader->at[i] << (8 * i);
  reader->at += size;
  return number;
}

static int64_t number(Reader* reader, int64_t smallest, int64_t largest)
{
  int64_t value = (int64_t)unsigned_number(reader, 8);
  if (!reader->wrong && (value < smallest || value > largest)) reader->wrong = "a number is out of range";
  return reader->wrong ? smallest : value;
}

static const char* text(Reader* reader)
{
  size_t size = (size_t)unsigned_number(reader, 4);
  if (!reader->wrong && (size_t)(reader->end - reader->at) < size) reader->wrong = "it ends early";
  if (!reader->wrong && memchr(reader->at, 0, size)) reader->wrong = "a string has a zero byte";
  if (reader->wrong) return "";
  char* string = reader->out;
  memcpy(string, reader->at, size);
  string[size] = '\0';
  reader->out += size + 1;
  reader->at += size;
  return string;
}

static const char* name(Reader* reader)
{
  const char* string = text(reader);
  if (!reader->wrong && !readable(string))
    reader->wrong = "a name is empty, no UTF-8, or has control characters";
  return string;
}

static void read_type(Reader* reader, Tensor* tensor)
{
  const char* type = text(reader);
#define CHOOSE(name, triton, onnx, size) \
  if (!strcmp(type, name)) {             \
    tensor->triton_type = triton;        \
    tensor->onnx_type = onnx;            \
    tensor->element_size = size;         \
  }
  ELEMENT_TYPES(CHOOSE)
#undef CHOOSE
  if (!reader->wrong && !tensor->element_size) reader->wrong = "an element type is unknown";
}

static int by_name(const void* a, const void* b)
{
  return strcmp((*(Tensor* const*)a)->name, (*(Tensor* const*)b)->name);
}

static TRITONSERVER_Error* read_tensors(Reader* reader, Tensors* tensors, bool inputs)
{
  size_t count = (size_t)number(reader, 1, (int64_t)(reader->end - reader->at));
  if (reader->wrong) return NULL;
  tensors->tensors = calloc(count, sizeof *tensors->tensors);
  tensors->sorted = calloc(count, sizeof *tensors->sorted);
  if (!tensors->tensors || !tensors->sorted) return no_memory(reader->model);
  tensors->count = count;
  for (size_t i = 0; i < count && !reader->wrong; i++) {
    Tensor* tensor = tensors->sorted[i] = &tensors->tensors[i];
    tensor->name = name(reader);
    read_type(reader, tensor);
    tensor->rank = (size_t)number(reader, 1, LARGEST_RANK);
    if (!inputs || reader->wrong) continue;
    tensor->dims = calloc(tensor->rank, sizeof *tensor->dims);
    tensor->bounds = calloc(tensor->rank, sizeof *tensor->bounds);
    if (!tensor->dims || !tensor->bounds) return no_memory(reader->model);
    for (size_t d = 0; d < tensor->rank; d++) tensor->bounds[d] = number(reader, -1, INT64_MAX);
  }
  if (reader->wrong) return NULL;
  qsort(tensors->sorted, count, sizeof *tensors->sorted, by_name);
  for (size_t i = 1; i < count; i++)
    if (!by_name(&tensors->sorted[i - 1], &tensors->sorted[i])) reader->wrong = "two tensors have one name";
  return NULL;
}

Tensor* find_tensor(const Tensors* tensors, const char* name)
{
  size_t low = 0, high = tensors->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(tensors->sorted[middle]->name, name);
    if (!order) return tensors->sorted[middle];
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return NULL;
}

TRITONSERVER_Error* read_plan(Model* model, const char* plan, size_t size)
{
  /* A string's end takes less than the length before it. */
  if (!(model->text = malloc(size + 1))) return no_memory(model->name);
  Reader reader = {.model = model->name, .out = model->text, .at = plan, .end = plan + size};
  model->completed = text(&reader);
  model->graph = text(&reader);
  model->arena_shrinkage = text(&reader);
  model->shrinks_idle = number(&reader, 0, 1);
  model->max_batch_size = number(&reader, 0, INT_MAX);
  model->items_at_once = number(&reader, 0, INT64_MAX);
  model->graph_level = number(&reader, 0, INT_MAX);
  model->execution_mode = number(&reader, 0, 1);
  model->intra_op = number(&reader, 0, INT_MAX);
  model->inter_op = number(&reader, 0, INT_MAX);
  model->mem_arena = number(&reader, 0, 1);
  model->mem_pattern = number(&reader, 0, 1);
  model->nice = number(&reader, -20, 19);
  TRY(read_tensors(&reader, &model->inputs, true));
  TRY(read_tensors(&reader, &model->outputs, false));
  if (!reader.wrong && reader.at != reader.end) reader.wrong = "it does not end where it should";
  if (!reader.wrong && !*model->graph) reader.wrong = "it names no graph";
  if (reader.wrong)
    return failure(
        ERROR_INTERNAL, "model '%s': its plan cannot be used: %s; TRITON_VISION_NATIVE=0 does without",
        model->name, reader.wrong);
  for (size_t i = 0; i < model->inputs.count; i++)
    if (model->inputs.tensors[i].rank > model->largest_rank)
      model->largest_rank = model->inputs.tensors[i].rank;
  return NULL;
}

static void free_tensors(Tensors* tensors)
{
  for (size_t i = 0; i < tensors->count; i++) {
    free(tensors->tensors[i].dims);
    free(tensors->tensors[i].bounds);
  }
  free(tensors->tensors);
  free(tensors->sorted);
}

void free_plan(Model* model)
{
  free_tensors(&model->inputs);
  free_tensors(&model->outputs);
  free(model->text);
}
