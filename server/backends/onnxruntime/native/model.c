/* A model as native_plan.py describes it, and its instances, each with a session and with what an execution
 * needs. */

#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

TRITONSERVER_Error* new_model(TRITONBACKEND_Model* triton, const char* name, Reply plan, Model** result)
{
  Model* model = *result = calloc(1, sizeof *model);
  if (!model || !(model->name = strdup(name))) return no_memory(name);
  model->triton = triton;
  TRY(read_plan(model, plan.text, plan.size));
  return open_onnxruntime(name);
}

void free_model(Model* model)
{
  if (!model) return;
  free_plan(model);
  free(model->name);
  free(model);
  malloc_trim(0); /* its sessions' weights go back to the system, and do not wait for the next model */
}

static bool make_room(Instance* instance)
{
  const Model* model = instance->model;
  size_t inputs = model->inputs.count, outputs = model->outputs.count;
  instance->joined = calloc(inputs, sizeof *instance->joined);
  instance->input_names = calloc(inputs, sizeof *instance->input_names);
  instance->input_values = calloc(inputs, sizeof(OrtValue*));
  instance->output_names = calloc(outputs, sizeof *instance->output_names);
  instance->output_values = calloc(outputs, sizeof(OrtValue*));
  instance->results = calloc(outputs, sizeof *instance->results);
  instance->shape = calloc(model->largest_rank, sizeof *instance->shape);
  return instance->joined && instance->input_names && instance->input_values && instance->output_names &&
         instance->output_values && instance->results && instance->shape;
}

TRITONSERVER_Error* new_instance(Model* model, Instance** result)
{
  Instance* instance = *result = calloc(1, sizeof *instance);
  if (!instance) return no_memory(model->name);
  instance->model = model;
  if (!make_room(instance)) return no_memory(model->name);
  TRY(open_session(instance));
  look_after(instance);
  return NULL;
}

void free_instance(Instance* instance)
{
  if (!instance) return;
  forget(instance);
  if (instance->session) ort.ReleaseSession(instance->session);
  for (size_t i = 0; instance->joined && i < instance->model->inputs.count; i++)
    free(instance->joined[i].data);
  for (size_t i = 0; instance->results && i < instance->model->outputs.count; i++)
    free(instance->results[i].shape);
  free(instance->joined);
  free(instance->input_names);
  free(instance->input_values);
  free(instance->output_names);
  free(instance->output_values);
  free(instance->results);
  free(instance->shape);
  free(instance);
}
