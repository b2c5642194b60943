/* A request on its way through the backend (jobs.c reads it, execute.c runs and answers it). */

#pragma once

#include "native.h"

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
  Feed* feeds;        /* one an input of the model */
  bool* wanted;       /* one an output of the model */
  int64_t items;      /* of the batch */
  uint64_t byte_size; /* of its inputs */
  uint64_t compute_end, answered;
  bool taken, success;
} Job;

TRITONSERVER_Error* cpu_buffer(const Feed*, uint32_t index, const void** data, uint64_t* byte_size);
TRITONSERVER_Error* read_job(const Model*, Job*);
/* Whether two requests to a model that batches fit together: the same inputs, of the same shapes but for the
 * batch. */
bool alike(const Model*, const Job*, const Job*);
