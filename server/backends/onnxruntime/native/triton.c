/* Whether the running tritonserver is one that triton.h describes. */

#include <string.h>

#include "native.h"

static bool same(const char* theirs, const char* ours)
{
  return theirs && !strcmp(theirs, ours);
}

/* An enumeration that another release numbers differently would be misread silently, so each is compared by
 * name. */
TRITONSERVER_Error* check_triton(void)
{
  uint32_t major, minor;
  TRY(TRITONBACKEND_ApiVersion(&major, &minor));
  if (major != BACKEND_API_MAJOR || minor < BACKEND_API_MINOR)
    return failure(
        ERROR_UNSUPPORTED,
        "this tritonserver has version %u.%u of the backend API, but the ONNX Runtime backend needs %d.%d; "
        "install the nvidia-pytriton that pyproject.toml names",
        major, minor, BACKEND_API_MAJOR, BACKEND_API_MINOR);
  const char* differs = NULL;
#define CHECK_DATA_TYPE(name, triton, onnx, size) \
  if (!same(TRITONSERVER_DataTypeString(triton), name)) differs = name;
  ELEMENT_TYPES(CHECK_DATA_TYPE)
#undef CHECK_DATA_TYPE
  const struct {
    int value;
    const char* name;
  } memory_types[] = {{MEMORY_CPU, "CPU"}, {MEMORY_CPU_PINNED, "CPU_PINNED"}, {MEMORY_GPU, "GPU"}},
    codes[] = {
        {ERROR_INTERNAL, "Internal"},
        {ERROR_INVALID_ARG, "Invalid argument"},
        {ERROR_UNSUPPORTED, "Unsupported"}};
  for (size_t i = 0; i < sizeof memory_types / sizeof *memory_types; i++)
    if (!same(TRITONSERVER_MemoryTypeString(memory_types[i].value), memory_types[i].name))
      differs = memory_types[i].name;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    TRITONSERVER_Error* error = TRITONSERVER_ErrorNew(codes[i].value, "");
    if (!error || !same(TRITONSERVER_ErrorCodeString(error), codes[i].name)) differs = codes[i].name;
    if (error) TRITONSERVER_ErrorDelete(error);
  }
  if (differs)
    return failure(
        ERROR_UNSUPPORTED,
        "this tritonserver numbers '%s' differently from the release that this backend was "
        "written for; TRITON_VISION_NATIVE=0 does without its native half",
        differs);
  return NULL;
}
