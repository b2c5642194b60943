/* Requests run and answered: those that fit together share an execution, and one that fails fails alone. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "native.h"

#define ALIGNMENT 64 /* bytes, of joined inputs; as ONNX Runtime aligns its own tensors */

/* One input of one request. data: its bytes, if they are one aligned block of the CPU's memory. */
typedef struct {
  TRITONBACKEND_Input* input; /* NULL: not given */
  const int64_t* shape;
  uint32_t dims_count, buffer_count;
  uint64_t byte_size;
  const void* data;
} Feed;

typedef struct {
  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response;
  TRITONSERVER_Error* error;
  Feed* feeds;   /* one an input of the model */
  bool* wanted;  /* one an output of the model */
  int64_t items; /* of the batch */
  uint64_t compute_end, answered;
  bool taken, success;
} Job;

/* An output of an execution. row: the bytes of one item, or of all where the model does not batch. */
typedef struct {
  const Tensor* tensor;
  OrtValue* value;
  char* data;
  int64_t* shape;
  size_t dims_count, row;
} Result;

static uint64_t now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t place_of(const char* name, const Tensor* tensors, size_t count)
{
  size_t i = 0;
  while (i < count && strcmp(tensors[i].name, name)) i++;
  return i;
}

static TRITONSERVER_Error* cpu_buffer(
    const Feed* feed, uint32_t index, const void** data, uint64_t* byte_size)
{
  int memory_type = MEMORY_CPU;
  int64_t memory_type_id = 0;
  TRY(TRITONBACKEND_InputBuffer(feed->input, index, data, byte_size, &memory_type, &memory_type_id));
  if (memory_type == MEMORY_GPU)
    return failure(ERROR_INVALID_ARG, "an input lies in a GPU's memory, but the model runs on the CPU");
  return NULL;
}

static TRITONSERVER_Error* read_feed(const Model* model, const Tensor* tensor, Feed* feed)
{
  TRY(TRITONBACKEND_InputProperties(
      feed->input, NULL, NULL, &feed->shape, &feed->dims_count, &feed->byte_size, &feed->buffer_count));
  uint64_t expected = tensor->element_size;
  for (uint32_t d = 0; d < feed->dims_count; d++) expected *= (uint64_t)feed->shape[d];
  if (feed->byte_size != expected)
    return failure(
        ERROR_INVALID_ARG, "model '%s': input '%s' has %llu bytes, its shape needs %llu", model->name,
        tensor->name, (unsigned long long)feed->byte_size, (unsigned long long)expected);
  if (feed->buffer_count == 1) {
    uint64_t byte_size;
    const void* data;
    TRY(cpu_buffer(feed, 0, &data, &byte_size));
    if ((uintptr_t)data % tensor->element_size == 0) feed->data = data;
  }
  return NULL;
}

static TRITONSERVER_Error* read_job(const Model* model, Job* job)
{
  uint32_t count;
  TRY(TRITONBACKEND_RequestInputCount(job->request, &count));
  for (uint32_t i = 0; i < count; i++) {
    TRITONBACKEND_Input* input;
    const char* name;
    TRY(TRITONBACKEND_RequestInputByIndex(job->request, i, &input));
    TRY(TRITONBACKEND_InputProperties(input, &name, NULL, NULL, NULL, NULL, NULL));
    size_t place = place_of(name, model->inputs, model->input_count);
    if (place == model->input_count)
      return failure(ERROR_INVALID_ARG, "model '%s': it has no input '%s'", model->name, name);
    Feed* feed = &job->feeds[place];
    feed->input = input;
    TRY(read_feed(model, &model->inputs[place], feed));
    if (model->max_batch_size) job->items = feed->shape[0];
  }
  TRY(TRITONBACKEND_RequestOutputCount(job->request, &count));
  for (uint32_t i = 0; i < count; i++) {
    const char* name;
    TRY(TRITONBACKEND_RequestOutputName(job->request, i, &name));
    size_t place = place_of(name, model->outputs, model->output_count);
    if (place < model->output_count) job->wanted[place] = true;
  }
  return NULL;
}

/* Whether two requests fit together: the same inputs, of the same shapes but for the batch. */
static bool alike(const Model* model, const Job* a, const Job* b)
{
  for (size_t i = 0; i < model->input_count; i++) {
    const Feed *x = &a->feeds[i], *y = &b->feeds[i];
    if (!x->input != !y->input) return false;
    if (!x->input) continue;
    if (x->dims_count != y->dims_count) return false;
    if (memcmp(x->shape + 1, y->shape + 1, (x->dims_count - 1) * sizeof *x->shape)) return false;
  }
  return true;
}

/* Input `i` of all jobs, one after the other; where it is one block already, that block. */
static TRITONSERVER_Error* joined(
    Instance* instance, Job** jobs, size_t count, size_t i, void** data, size_t* byte_size)
{
  *byte_size = 0;
  for (size_t j = 0; j < count; j++) *byte_size += jobs[j]->feeds[i].byte_size;
  if (count == 1 && jobs[0]->feeds[i].data) {
    *data = (void*)jobs[0]->feeds[i].data; /* ONNX Runtime does not write to inputs */
    return NULL;
  }
  Block* block = &instance->joined[i];
  if (!block->data || block->size < *byte_size) {
    free(block->data);
    block->size = (*byte_size / ALIGNMENT + 1) * ALIGNMENT;
    block->data = aligned_alloc(ALIGNMENT, block->size);
    if (!block->data) return failure(ERROR_INTERNAL, "no memory for a batch of %zu bytes", *byte_size);
  }
  char* to = block->data;
  for (size_t j = 0; j < count; j++) {
    const Feed* feed = &jobs[j]->feeds[i];
    for (uint32_t b = 0; b < feed->buffer_count; b++) {
      const void* part;
      uint64_t part_size;
      TRY(cpu_buffer(feed, b, &part, &part_size));
      memcpy(to, part, part_size);
      to += part_size;
    }
  }
  *data = block->data;
  return NULL;
}

static TRITONSERVER_Error* read_result(const Model* model, Result* result, int64_t items)
{
  OrtShape* shape;
  if (!result->value)
    return failure(
        ERROR_INTERNAL, "model '%s': output '%s' was not computed", model->name, result->tensor->name);
  TRY(ort_failure(model, ort.GetTensorTypeAndShape(result->value, &shape)));
  ort.GetDimensionsCount(shape, &result->dims_count);
  result->shape = malloc((result->dims_count + 1) * sizeof *result->shape);
  ort.GetDimensions(shape, result->shape, result->dims_count);
  ort.ReleaseShape(shape);
  TRY(ort_failure(model, ort.GetTensorMutableData(result->value, (void**)&result->data)));
  result->row = result->tensor->element_size;
  for (size_t d = model->max_batch_size ? 1 : 0; d < result->dims_count; d++)
    result->row *= (size_t)result->shape[d];
  if (!model->max_batch_size || (result->dims_count && result->shape[0] == items)) return NULL;
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
    const Model* model, const Job* job, const Result* results, size_t count, int64_t start)
{
  for (size_t r = 0; r < count; r++) {
    const Result* result = &results[r];
    if (!job->wanted[result->tensor - model->outputs]) continue;
    if (model->max_batch_size) result->shape[0] = job->items;
    size_t byte_size = result->row * (size_t)(model->max_batch_size ? job->items : 1);
    TRITONBACKEND_Output* output;
    void* to;
    int memory_type = MEMORY_CPU;
    int64_t memory_type_id = 0;
    TRY(TRITONBACKEND_ResponseOutput(
        job->response, &output, result->tensor->name, result->tensor->triton_type, result->shape,
        (uint32_t)result->dims_count));
    TRY(TRITONBACKEND_OutputBuffer(output, &to, byte_size, &memory_type, &memory_type_id));
    if (memory_type == MEMORY_GPU)
      return failure(
          ERROR_INVALID_ARG, "an output is to lie in a GPU's memory, but the model runs on the CPU");
    memcpy(to, result->data + result->row * (size_t)start, byte_size);
  }
  return NULL;
}

/* The inputs that these jobs have, joined, as ONNX Runtime's tensors; `fed` counts those that were made. */
static TRITONSERVER_Error* make_inputs(
    Instance* instance, Job** jobs, size_t count, int64_t items, const char** names, OrtValue** values,
    size_t* fed)
{
  const Model* model = instance->model;
  for (size_t i = 0; i < model->input_count; i++) {
    const Feed* feed = &jobs[0]->feeds[i];
    if (!feed->input) continue;
    void* data = NULL;
    size_t byte_size;
    TRY(joined(instance, jobs, count, i, &data, &byte_size));
    int64_t shape[feed->dims_count + 1];
    memcpy(shape, feed->shape, feed->dims_count * sizeof *shape);
    if (model->max_batch_size) shape[0] = items;
    names[*fed] = model->inputs[i].name;
    TRY(ort_failure(
        model, ort.CreateTensorWithDataAsOrtValue(
                   cpu_memory, data, byte_size, shape, feed->dims_count, model->inputs[i].onnx_type,
                   &values[*fed])));
    ++*fed;
  }
  return NULL;
}

/* One execution of these jobs. An error is theirs together; what fails for one alone is in that job. */
static TRITONSERVER_Error* run(Instance* instance, Job** jobs, size_t count)
{
  const Model* model = instance->model;
  const char *input_names[model->input_count + 1], *output_names[model->output_count + 1];
  OrtValue *inputs[model->input_count + 1], *outputs[model->output_count + 1];
  Result results[model->output_count + 1];
  size_t fed = 0, asked = 0;
  int64_t items = 0, start = 0;
  for (size_t j = 0; j < count; j++) items += jobs[j]->items;
  for (size_t o = 0; o < model->output_count; o++) {
    bool wanted = false;
    for (size_t j = 0; j < count; j++) wanted |= jobs[j]->wanted[o];
    if (!wanted) continue;
    output_names[asked] = model->outputs[o].name;
    outputs[asked] = NULL; /* ONNX Runtime allocates it */
    results[asked++] = (Result){.tensor = &model->outputs[o]};
  }

  TRITONSERVER_Error* error = make_inputs(instance, jobs, count, items, input_names, inputs, &fed);
  if (!error)
    error = ort_failure(
        model, ort.Run(
                   instance->session, NULL, input_names, (const OrtValue* const*)inputs, fed, output_names,
                   asked, outputs));
  for (size_t i = 0; i < fed; i++) ort.ReleaseValue(inputs[i]);
  for (size_t a = 0; a < asked && !error; a++) {
    results[a].value = outputs[a];
    error = read_result(model, &results[a], items);
  }
  for (size_t j = 0; j < count && !error; j++) {
    jobs[j]->error = fill_response(model, jobs[j], results, asked, start);
    start += jobs[j]->items;
  }
  for (size_t a = 0; a < asked; a++) {
    free(results[a].shape);
    if (outputs[a]) ort.ReleaseValue(outputs[a]);
  }
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

void execute(
    Instance* instance, TRITONBACKEND_ModelInstance* triton, TRITONBACKEND_Request** requests, uint32_t count)
{
  const Model* model = instance->model;
  uint64_t exec_start = now_ns(), items = 0;
  if (!instance->nice) { /* tritonserver gives an instance one thread for all its requests */
    take_priority(model);
    instance->nice = true;
  }
  Job* jobs = calloc(count, sizeof *jobs);
  Job** together = calloc(count, sizeof(Job*));
  Feed* feeds = calloc(count * model->input_count + 1, sizeof *feeds);
  bool* wanted = calloc(count * model->output_count + 1, sizeof *wanted);
  for (uint32_t r = 0; r < count; r++) {
    Job* job = &jobs[r];
    job->request = requests[r];
    job->feeds = feeds + r * model->input_count;
    job->wanted = wanted + r * model->output_count;
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
    if (jobs[r].taken) continue;
    size_t size = take_together(model, &jobs[r], jobs + count, together);
    run_and_answer(instance, together, size);
  }
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
  free(wanted);
  free(feeds);
  free(together);
  free(jobs);
}
