/* Errors of this library and of ONNX Runtime as Triton's, and lines in Triton's log. */

#include <stdarg.h>
#include <stdio.h>

#include "native.h"

TRITONSERVER_Error* failure(int code, const char* format, ...)
{
  char message[4096];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return TRITONSERVER_ErrorNew(code, message);
}

/* In the words of the exception that ONNX Runtime's Python package raises. */
TRITONSERVER_Error* ort_failure(const Model* model, OrtStatus* status)
{
  static const char* const names[] = {
      "OK",         "FAIL",         "INVALID_ARGUMENT",  "NO_SUCHFILE",
      "NO_MODEL",   "ENGINE_ERROR", "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
      "MODEL_LOADED", "NOT_IMPLEMENTED", "INVALID_GRAPH", "EP_FAIL"};
  if (!status) return NULL;
  size_t code = (size_t)ort.GetErrorCode(status);
  TRITONSERVER_Error* error = failure(
      ERROR_INTERNAL, "model '%s': [ONNXRuntimeError] : %zu : %s : %s", model->name, code,
      code < sizeof names / sizeof *names ? names[code] : "UNKNOWN", ort.GetErrorMessage(status));
  ort.ReleaseStatus(status);
  return error;
}

void log_line(int level, const char* format, const char* name)
{
  char message[512];
  snprintf(message, sizeof message, format, name);
  TRITONSERVER_LogMessage(level, "onnxruntime", 0, message);
}

void log_and_drop(TRITONSERVER_Error* error)
{
  if (!error) return;
  TRITONSERVER_LogMessage(LOG_ERROR, __FILE__, __LINE__, TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
}
