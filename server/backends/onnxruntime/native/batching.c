/* Requests whose BYTES are not what their shape says share no batch (docs/decisions/0060).
 *
 * Triton's Python backend refuses a batch that holds one, strangers with it. A copy of this library lies beside that backend
 * as `batchstrategy.so`, and tritonserver asks it whether a request may join a batch that is being formed. */

#include <stdlib.h>
#include <string.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct TRITONBACKEND_Batcher TRITONBACKEND_Batcher;

typedef enum { EMPTY, OPEN, CLOSED } Batch;

/* Strings as they are sent, each behind its length in four bytes; buffers may end anywhere. */
typedef struct {
  uint64_t count, left; /* strings that were begun, and bytes that the last one lacks */
  unsigned char length[4];
  size_t length_bytes; /* of the next string, that are known */
} Strings;

static void read_on(Strings* strings, const unsigned char* at, uint64_t size)
{
  while (size) {
    uint64_t taken = 1;
    if (strings->left) {
      taken = strings->left < size ? strings->left : size;
      strings->left -= taken;
    } else {
      strings->length[strings->length_bytes++] = *at;
      if (strings->length_bytes == sizeof strings->length) {
        uint32_t length;
        memcpy(&length, strings->length, sizeof length);
        strings->left = length;
        strings->length_bytes = 0;
        strings->count++;
      }
    }
    at += taken;
    size -= taken;
  }
}

static TRITONSERVER_Error* look_at_input(TRITONBACKEND_Input* input, bool* is_sound)
{
  const char* name;
  const int64_t* shape;
  int type;
  uint32_t dims, buffers;
  uint64_t size, expected = 1;
  TRY(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &dims, &size, &buffers));
  const char* type_name = TRITONSERVER_DataTypeString(type);
  if (!type_name || strcmp(type_name, "BYTES")) return NULL;
  Strings strings = {0};
  for (uint32_t b = 0; b < buffers; b++) {
    const void* data;
    int memory_type;
    int64_t memory_id;
    TRY(TRITONBACKEND_InputBuffer(input, b, &data, &size, &memory_type, &memory_id));
    if (memory_type == MEMORY_GPU) return NULL; /* not to be read from here */
    read_on(&strings, data, size);
  }
  for (uint32_t d = 0; d < dims; d++)
    if (__builtin_mul_overflow(expected, (uint64_t)shape[d], &expected)) *is_sound = false;
  if (strings.left || strings.length_bytes || strings.count != expected) *is_sound = false;
  return NULL;
}

static TRITONSERVER_Error* look_at(TRITONBACKEND_Request* request, bool* is_sound)
{
  uint32_t count;
  TRY(TRITONBACKEND_RequestInputCount(request, &count));
  for (uint32_t i = 0; i < count && *is_sound; i++) {
    TRITONBACKEND_Input* input;
    TRY(TRITONBACKEND_RequestInputByIndex(request, i, &input));
    TRY(look_at_input(input, is_sound));
  }
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelBatcherInitialize(
    TRITONBACKEND_Batcher** batcher, TRITONBACKEND_Model* model)
{
  (void)model;
  *batcher = NULL;
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelBatcherFinalize(TRITONBACKEND_Batcher* batcher)
{
  (void)batcher;
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelBatchInitialize(
    const TRITONBACKEND_Batcher* batcher, void** batch)
{
  (void)batcher;
  *batch = calloc(1, sizeof(Batch)); /* without memory for it, all may join */
  return NULL;
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelBatchFinalize(void* batch)
{
  free(batch);
  return NULL;
}

/* The first one is always taken, and nothing joins a broken one. A refusal ends the batch, so who is asked about next is the
 * first of another: nobody can be refused for ever. */
EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelBatchIncludeRequest(
    TRITONBACKEND_Request* request, void* state, bool* may_join)
{
  Batch* batch = state;
  bool is_sound = true;
  *may_join = true;
  if (!batch) return NULL;
  TRITONSERVER_Error* error = look_at(request, &is_sound);
  if (error) {
    TRITONSERVER_ErrorDelete(error);
    is_sound = false;
  }
  if (*batch == EMPTY) {
    *batch = is_sound ? OPEN : CLOSED;
  } else if (*batch == CLOSED || !is_sound) {
    *may_join = false;
    *batch = EMPTY;
  }
  return NULL;
}
