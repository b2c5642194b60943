/* Requests as this backend sees them: what each brings, what it wants, and which fit together. */

#include <stdlib.h>
#include <string.h>

#include "jobs.h"

TRITONSERVER_Error* cpu_buffer(const Feed* feed, uint32_t index, const void** data, uint64_t* byte_size)
{
  int memory_type = MEMORY_CPU;
  int64_t memory_type_id = 0;
  TRY(TRITONBACKEND_InputBuffer(feed->input, index, data, byte_size, &memory_type, &memory_type_id));
  if (memory_type == MEMORY_GPU)
    return failure(ERROR_INVALID_ARG, "an input lies in a GPU's memory, but the model runs on the CPU");
  return NULL;
}

static TRITONSERVER_Error* check_shape(const Model* model, const Tensor* tensor, const Feed* feed)
{
  uint64_t expected = tensor->element_size;
  bool possible = feed->dims_count == tensor->rank;
  for (uint32_t d = 0; d < feed->dims_count && possible; d++)
    possible = feed->shape[d] >= 0 && !__builtin_mul_overflow(expected, (uint64_t)feed->shape[d], &expected);
  /* A dimension of 0 hides how absurd those before it are. */
  if (!possible || expected > PTRDIFF_MAX)
    return failure(
        ERROR_INVALID_ARG, "model '%s': input '%s' has a shape of %u dimensions that no tensor can have",
        model->name, tensor->name, feed->dims_count);
  uint32_t first = model->max_batch_size ? 1 : 0;
  for (uint32_t d = first; d < feed->dims_count; d++)
    if (tensor->bounds[d] >= 0 && feed->shape[d] > tensor->bounds[d])
      return failure(
          ERROR_INVALID_ARG,
          "model '%s': input '%s' has size %lld in dimension %u, more than the %lld of max_shape",
          model->name, tensor->name, (long long)feed->shape[d], d - first, (long long)tensor->bounds[d]);
  if (feed->byte_size != expected)
    return failure(
        ERROR_INVALID_ARG, "model '%s': input '%s' has %llu bytes, its shape needs %llu", model->name,
        tensor->name, (unsigned long long)feed->byte_size, (unsigned long long)expected);
  return NULL;
}

static TRITONSERVER_Error* read_feed(const Model* model, const Tensor* tensor, Feed* feed)
{
  TRY(TRITONBACKEND_InputProperties(
      feed->input, NULL, NULL, &feed->shape, &feed->dims_count, &feed->byte_size, &feed->buffer_count));
  TRY(check_shape(model, tensor, feed));
  if (feed->buffer_count != 1) return NULL;
  uint64_t byte_size;
  const void* data;
  TRY(cpu_buffer(feed, 0, &data, &byte_size));
  if (byte_size == feed->byte_size && (uintptr_t)data % tensor->element_size == 0) feed->data = data;
  return NULL;
}

TRITONSERVER_Error* read_job(const Model* model, Job* job)
{
  uint32_t count;
  bool first = true;
  TRY(TRITONBACKEND_RequestInputCount(job->request, &count));
  for (uint32_t i = 0; i < count; i++) {
    TRITONBACKEND_Input* input;
    const char* name;
    TRY(TRITONBACKEND_RequestInputByIndex(job->request, i, &input));
    TRY(TRITONBACKEND_InputProperties(input, &name, NULL, NULL, NULL, NULL, NULL));
    const Tensor* tensor = find_tensor(&model->inputs, name);
    if (!tensor) return failure(ERROR_INVALID_ARG, "model '%s': it has no input '%s'", model->name, name);
    Feed* feed = &job->feeds[tensor - model->inputs.tensors];
    if (feed->input)
      return failure(ERROR_INVALID_ARG, "model '%s': input '%s' is given twice", model->name, name);
    feed->input = input;
    TRY(read_feed(model, tensor, feed));
    job->byte_size += feed->byte_size;
    if (!model->max_batch_size) continue;
    if (!first && job->items != feed->shape[0])
      return failure(
          ERROR_INVALID_ARG, "model '%s': input '%s' has a batch of %lld, another has %lld", model->name,
          name, (long long)feed->shape[0], (long long)job->items);
    job->items = feed->shape[0];
    first = false;
  }
  TRY(TRITONBACKEND_RequestOutputCount(job->request, &count));
  /* tritonserver counts from the first one for each name below. */
  if (count == model->outputs.count) {
    memset(job->wanted, true, count * sizeof *job->wanted);
    return NULL;
  }
  for (uint32_t i = 0; i < count; i++) {
    const char* name;
    TRY(TRITONBACKEND_RequestOutputName(job->request, i, &name));
    const Tensor* tensor = find_tensor(&model->outputs, name);
    if (tensor) job->wanted[tensor - model->outputs.tensors] = true;
  }
  return NULL;
}

bool alike(const Model* model, const Job* a, const Job* b)
{
  for (size_t i = 0; i < model->inputs.count; i++) {
    const Feed *x = &a->feeds[i], *y = &b->feeds[i];
    if (!x->input != !y->input) return false;
    if (!x->input) continue;
    if (x->dims_count != y->dims_count) return false;
    if (memcmp(x->shape + 1, y->shape + 1, (x->dims_count - 1) * sizeof *x->shape)) return false;
  }
  return true;
}
