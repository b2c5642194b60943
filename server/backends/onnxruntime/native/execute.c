/* Requests run and answered: those that fit together share an execution, and one that fails fails alone. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs.h"

enum {
  ALIGNMENT = 64,      /* bytes, of joined inputs; as ONNX Runtime aligns its own tensors */
  KEPT_BYTES = 1 << 20 /* of joined inputs, for the next batch; malloc is quick for larger ones */
};

/* Input `i` of all jobs, one after the other; where it is one block already, that block. */
static TRITONSERVER_Error* joined(
    Instance* instance, Job** jobs, size_t count, size_t i, void** data, size_t* byte_size)
{
  *byte_size = 0;
  for (size_t j = 0; j < count; j++)
    if (__builtin_add_overflow(*byte_size, jobs[j]->feeds[i].byte_size, byte_size))
      return no_memory(instance->model->name);
  if (count == 1 && jobs[0]->feeds[i].data) {
    *data = (void*)jobs[0]->feeds[i].data; /* ONNX Runtime does not write to inputs */
    return NULL;
  }
  Block* block = &instance->joined[i];
  if (!block->data || block->size < *byte_size) {
    free(block->data);
    *block = (Block){0};
    size_t size = *byte_size < PTRDIFF_MAX ? (*byte_size / ALIGNMENT + 1) * ALIGNMENT : 0;
    if (!size || !(block->data = aligned_alloc(ALIGNMENT, size)))
      return failure(
          ERROR_INTERNAL, "model '%s': no memory for a batch of %zu bytes", instance->model->name,
          *byte_size);
    block->size = size;
  }
  size_t done = 0;
  for (size_t j = 0; j < count; j++) {
    const Feed* feed = &jobs[j]->feeds[i];
    for (uint32_t b = 0; b < feed->buffer_count; b++) {
      const void* part;
      uint64_t part_size;
      TRY(cpu_buffer(feed, b, &part, &part_size));
      if (part_size > *byte_size - done) part_size = *byte_size - done; /* more than it said */
      if (part_size) memcpy((char*)block->data + done, part, part_size);
      done += part_size;
    }
  }
  if (done != *byte_size)
    return failure(
        ERROR_INVALID_ARG, "model '%s': input '%s' has %zu bytes, %zu were announced", instance->model->name,
        instance->model->inputs.tensors[i].name, done, *byte_size);
  *data = block->data;
  return NULL;
}

static void drop_large_blocks(Instance* instance)
{
  for (size_t i = 0; i < instance->model->inputs.count; i++) {
    Block* block = &instance->joined[i];
    if (block->size <= KEPT_BYTES) continue;
    free(block->data);
    *block = (Block){0};
  }
}

/* ---- outputs ---- */

static TRITONSERVER_Error* read_shape(const Model* model, Result* result, const OrtValue* value)
{
  OrtShape* shape = NULL;
  int element_type = 0;
  TRY(ort_failure(model->name, ort.GetTensorTypeAndShape(value, &shape)));
  TRITONSERVER_Error* error = ort_failure(model->name, ort.GetTensorElementType(shape, &element_type));
  if (!error && element_type != result->tensor->onnx_type)
    error = failure(
        ERROR_INTERNAL, "model '%s': output '%s' has element type %d, but %d is configured", model->name,
        result->tensor->name, element_type, result->tensor->onnx_type);
  if (!error) error = ort_failure(model->name, ort.GetDimensionsCount(shape, &result->dims_count));
  if (!error && result->dims_count > result->shape_room) {
    int64_t* room = realloc(result->shape, result->dims_count * sizeof *room);
    if (!room)
      error = no_memory(model->name);
    else {
      result->shape = room;
      result->shape_room = result->dims_count;
    }
  }
  if (!error && result->dims_count)
    error = ort_failure(model->name, ort.GetDimensions(shape, result->shape, result->dims_count));
  ort.ReleaseShape(shape);
  return error;
}

/* What was computed is looked at, whatever the plan says: its own type and shape tell how many bytes there
 * are. */
static TRITONSERVER_Error* read_result(const Model* model, Result* result, OrtValue* value, int64_t items)
{
  int is_tensor = 0;
  if (value) TRY(ort_failure(model->name, ort.IsTensor(value, &is_tensor)));
  if (!is_tensor)
    return failure(
        ERROR_INTERNAL, "model '%s': output '%s' was not computed", model->name, result->tensor->name);
  TRY(read_shape(model, result, value));
  TRY(ort_failure(model->name, ort.GetTensorMutableData(value, (void**)&result->data)));
  result->row = result->tensor->element_size;
  bool possible = true;
  for (size_t d = model->max_batch_size ? 1 : 0; d < result->dims_count; d++)
    possible &= result->shape[d] >= 0 &&
                !__builtin_mul_overflow(result->row, (size_t)result->shape[d], &result->row);
  if (possible && (!model->max_batch_size || (result->dims_count && result->shape[0] == items))) return NULL;
  char dims[512] = "";
  for (size_t d = 0, at = 0; d < result->dims_count && at < sizeof dims - 32; d++)
    at += (size_t)snprintf(dims + at, 32, d ? ", %lld" : "%lld", (long long)result->shape[d]);
  return failure(
      ERROR_INTERNAL,
      "model '%s': output '%s' has shape [%s] for a batch of %lld: its first dimension is not the batch; "
      "export the graph with a dynamic batch, or set max_batch_size: 0",
      model->name, result->tensor->name, dims, (long long)items);
}

/* Copy a job's rows, from row `start` on, of each output that it wants. */
static TRITONSERVER_Error* fill_response(
    const Model* model, const Job* job, const Result* results, size_t count, int64_t start, size_t* copied)
{
  for (size_t r = 0; r < count; r++) {
    const Result* result = &results[r];
    if (!job->wanted[result->tensor - model->outputs.tensors]) continue;
    if (model->max_batch_size) result->shape[0] = job->items;
    size_t byte_size = result->row * (size_t)(model->max_batch_size ? job->items : 1);
    TRITONBACKEND_Output* output;
    void* to = NULL;
    int memory_type = MEMORY_CPU;
    int64_t memory_type_id = 0;
    TRY(TRITONBACKEND_ResponseOutput(
        job->response, &output, result->tensor->name, result->tensor->triton_type, result->shape,
        (uint32_t)result->dims_count));
    TRY(TRITONBACKEND_OutputBuffer(output, &to, byte_size, &memory_type, &memory_type_id));
    if (memory_type == MEMORY_GPU)
      return failure(
          ERROR_INVALID_ARG, "an output is to lie in a GPU's memory, but the model runs on the CPU");
    if (!byte_size) continue;
    if (!to) return no_memory(model->name);
    memcpy(to, result->data + result->row * (size_t)start, byte_size);
    *copied += byte_size;
  }
  return NULL;
}

/* ---- an execution ---- */

/* The inputs that these jobs have, joined, as ONNX Runtime's tensors; `fed` counts those that were made. */
static TRITONSERVER_Error* make_inputs(
    Instance* instance, Job** jobs, size_t count, int64_t items, size_t* fed)
{
  const Model* model = instance->model;
  for (size_t i = 0; i < model->inputs.count; i++) {
    const Feed* feed = &jobs[0]->feeds[i];
    if (!feed->input) continue;
    void* data = NULL;
    size_t byte_size;
    TRY(joined(instance, jobs, count, i, &data, &byte_size));
    const int64_t* shape = feed->shape;
    if (count > 1) { /* only a model that batches is given several */
      memcpy(instance->shape, feed->shape, feed->dims_count * sizeof *shape);
      instance->shape[0] = items;
      shape = instance->shape;
    }
    static char nothing; /* for a tensor without elements */
    OrtValue** value = &instance->input_values[*fed];
    TRY(ort_failure(
        model->name, ort.CreateTensorWithDataAsOrtValue(
                         cpu_memory, data ? data : &nothing, byte_size, shape, feed->dims_count,
                         model->inputs.tensors[i].onnx_type, value)));
    instance->input_names[*fed] = model->inputs.tensors[i].name;
    ++*fed;
  }
  return NULL;
}

static size_t choose_outputs(Instance* instance, Job** jobs, size_t count)
{
  const Tensors* outputs = &instance->model->outputs;
  size_t asked = 0;
  for (size_t o = 0; o < outputs->count; o++) {
    bool wanted = false;
    for (size_t j = 0; j < count; j++) wanted |= jobs[j]->wanted[o];
    if (!wanted) continue;
    instance->output_names[asked] = outputs->tensors[o].name;
    instance->output_values[asked] = NULL; /* ONNX Runtime allocates it */
    instance->results[asked++].tensor = &outputs->tensors[o];
  }
  return asked;
}

/* One execution of these jobs. An error is theirs together; what fails for one alone is in that job. */
static TRITONSERVER_Error* run(Instance* instance, Job** jobs, size_t count)
{
  const Model* model = instance->model;
  size_t fed = 0, asked = choose_outputs(instance, jobs, count), bytes = 0;
  int64_t items = 0, start = 0;
  for (size_t j = 0; j < count; j++) {
    items += jobs[j]->items; /* each at most max_batch_size, as is their sum */
    bytes += jobs[j]->byte_size;
  }
  OrtValue** values = instance->output_values;
  TRITONSERVER_Error* error = make_inputs(instance, jobs, count, items, &fed);
  if (!error)
    error = ort_failure(
        model->name,
        ort.Run(
            instance->session, NULL, instance->input_names, (const OrtValue* const*)instance->input_values,
            fed, instance->output_names, asked, values));
  for (size_t i = 0; i < fed; i++) ort.ReleaseValue(instance->input_values[i]);
  for (size_t a = 0; a < asked && !error; a++)
    error = read_result(model, &instance->results[a], values[a], items);
  for (size_t j = 0; j < count && !error; j++) {
    jobs[j]->error = fill_response(model, jobs[j], instance->results, asked, start, &bytes);
    start += jobs[j]->items;
  }
  for (size_t a = 0; a < asked; a++)
    if (values[a]) ort.ReleaseValue(values[a]);
  drop_large_blocks(instance);
  was_used(instance, bytes);
  return error;
}

static void answer(Job* job, uint64_t compute_end)
{
  job->success = !job->error;
  job->compute_end = compute_end;
  if (job->response) {
    log_and_drop(TRITONBACKEND_ResponseSend(job->response, RESPONSE_COMPLETE_FINAL, job->error));
    if (job->error) TRITONSERVER_ErrorDelete(job->error);
  } else /* there is nobody to tell */
    log_and_drop(job->error);
  job->answered = now_ns();
}

static void run_and_answer(Instance* instance, Job** jobs, size_t count)
{
  TRITONSERVER_Error* error = run(instance, jobs, count);
  if (error && count > 1) { /* find the one that fails, and answer the others */
    TRITONSERVER_ErrorDelete(error);
    for (size_t j = 0; j < count; j++) run_and_answer(instance, &jobs[j], 1);
    return;
  }
  uint64_t compute_end = now_ns();
  if (error) jobs[0]->error = error;
  for (size_t j = 0; j < count; j++) answer(jobs[j], compute_end);
}

/* Those that fit together with the first, as many as the model may compute at once. */
static size_t take_together(const Model* model, Job* first, Job* end, Job** together)
{
  size_t count = 0;
  int64_t items = 0;
  for (Job* job = first; job < end; job++) {
    if (job->taken || (count && (!model->max_batch_size || !alike(model, first, job)))) continue;
    if (count && model->items_at_once && items + job->items > model->items_at_once) continue;
    job->taken = true;
    together[count++] = job;
    items += job->items;
  }
  return count;
}

typedef struct {
  Job* jobs;
  Job** together;
  Feed* feeds;
  bool* wanted;
} Room;

static bool make_room(const Model* model, uint32_t count, Room* room)
{
  room->jobs = calloc(count, sizeof *room->jobs);
  room->together = calloc(count, sizeof(Job*));
  room->feeds = calloc(count * model->inputs.count, sizeof *room->feeds);
  room->wanted = calloc(count * model->outputs.count, sizeof *room->wanted);
  return room->jobs && room->together && room->feeds && room->wanted;
}

static void free_room(Room* room)
{
  free(room->jobs);
  free(room->together);
  free(room->feeds);
  free(room->wanted);
}

static void report(
    TRITONBACKEND_ModelInstance* triton, const Job* jobs, uint32_t count, uint64_t items, uint64_t exec_start,
    uint64_t compute_start)
{
  uint64_t compute_end = compute_start, exec_end = now_ns();
  for (uint32_t r = 0; r < count; r++) {
    const Job* job = &jobs[r];
    if (job->compute_end > compute_end) compute_end = job->compute_end;
    log_and_drop(TRITONBACKEND_ModelInstanceReportStatistics(
        triton, job->request, job->success, exec_start, compute_start, job->compute_end, job->answered));
    log_and_drop(TRITONBACKEND_RequestRelease(job->request, REQUEST_RELEASE_ALL));
  }
  log_and_drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(
      triton, items, exec_start, compute_start, compute_end, exec_end));
}

TRITONSERVER_Error* execute(
    Instance* instance, TRITONBACKEND_ModelInstance* triton, TRITONBACKEND_Request** requests, uint32_t count)
{
  const Model* model = instance->model;
  uint64_t exec_start = now_ns(), items = 0;
  if (!instance->nice) { /* tritonserver gives an instance one thread for all its requests */
    take_priority(model);
    instance->nice = true;
  }
  Room room;
  if (!make_room(model, count, &room)) {
    free_room(&room);
    return no_memory(model->name);
  }
  for (uint32_t r = 0; r < count; r++) {
    Job* job = &room.jobs[r];
    job->request = requests[r];
    job->feeds = room.feeds + r * model->inputs.count;
    job->wanted = room.wanted + r * model->outputs.count;
    job->error = TRITONBACKEND_ResponseNew(&job->response, job->request);
    if (!job->error) job->error = read_job(model, job);
    if (job->error) {
      job->taken = true;
      answer(job, now_ns());
    }
    items += model->max_batch_size ? (uint64_t)job->items : 1;
  }
  uint64_t compute_start = now_ns();
  for (uint32_t r = 0; r < count; r++) {
    if (room.jobs[r].taken) continue;
    size_t size = take_together(model, &room.jobs[r], room.jobs + count, room.together);
    run_and_answer(instance, room.together, size);
  }
  report(triton, room.jobs, count, items, exec_start, compute_start);
  free_room(&room);
  return NULL;
}
