/* Of ONNX Runtime's C API (onnxruntime_c_api.h), what this folder calls. OrtApi is a table of functions that only
 * grows at its end, so a function's place in it never changes; all of these are in its first version. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 1

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtShape OrtShape; /* OrtTensorTypeAndShapeInfo */

typedef struct {
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)(void);
} OrtApiBase;

enum { LOGGING_WARNING = 2, ALLOCATOR_DEVICE = 0, MEMORY_DEFAULT = 0 };

/* name, its place in OrtApi, what it returns, its arguments */
#define ORT_FUNCTIONS(F)                                                                                      \
  F(GetErrorCode, 1, int, (const OrtStatus*))                                                                 \
  F(GetErrorMessage, 2, const char*, (const OrtStatus*))                                                      \
  F(CreateEnv, 3, OrtStatus*, (int logging_level, const char* id, OrtEnv**))                                  \
  F(CreateSession, 7, OrtStatus*, (const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**))  \
  F(Run, 9, OrtStatus*,                                                                                       \
    (OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,        \
     size_t input_count, const char* const* output_names, size_t output_count, OrtValue** outputs))           \
  F(CreateSessionOptions, 10, OrtStatus*, (OrtSessionOptions**))                                              \
  F(SetSessionExecutionMode, 13, OrtStatus*, (OrtSessionOptions*, int))                                       \
  F(DisableMemPattern, 17, OrtStatus*, (OrtSessionOptions*))                                                  \
  F(DisableCpuMemArena, 19, OrtStatus*, (OrtSessionOptions*))                                                 \
  F(SetSessionLogId, 20, OrtStatus*, (OrtSessionOptions*, const char*))                                       \
  F(SetSessionGraphOptimizationLevel, 23, OrtStatus*, (OrtSessionOptions*, int))                              \
  F(SetIntraOpNumThreads, 24, OrtStatus*, (OrtSessionOptions*, int))                                          \
  F(SetInterOpNumThreads, 25, OrtStatus*, (OrtSessionOptions*, int))                                          \
  F(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                                           \
    (const OrtMemoryInfo*, void* data, size_t byte_size, const int64_t* shape, size_t dims_count, int type,   \
     OrtValue**))                                                                                             \
  F(GetTensorMutableData, 51, OrtStatus*, (OrtValue*, void**))                                                \
  F(GetDimensionsCount, 61, OrtStatus*, (const OrtShape*, size_t*))                                           \
  F(GetDimensions, 62, OrtStatus*, (const OrtShape*, int64_t*, size_t))                                       \
  F(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue*, OrtShape**))                                     \
  F(CreateCpuMemoryInfo, 69, OrtStatus*, (int allocator, int memory, OrtMemoryInfo**))                        \
  F(ReleaseStatus, 93, void, (OrtStatus*))                                                                    \
  F(ReleaseSession, 95, void, (OrtSession*))                                                                  \
  F(ReleaseValue, 96, void, (OrtValue*))                                                                      \
  F(ReleaseShape, 99, void, (OrtShape*))                                                                      \
  F(ReleaseSessionOptions, 100, void, (OrtSessionOptions*))               

#define DECLARE(name, place, result, arguments) result(*name) arguments;
typedef struct {
  ORT_FUNCTIONS(DECLARE)
} Ort;
#undef DECLARE

/* ONNX's element types and Triton's, with the bytes of an element; strings and bfloat16 are not served here. */
#define ELEMENT_TYPES(E)                                                                             \
  E("TYPE_BOOL", 1, 9, 1) E("TYPE_UINT8", 2, 2, 1) E("TYPE_UINT16", 3, 4, 2) E("TYPE_UINT32", 4, 12, 4) \
  E("TYPE_UINT64", 5, 13, 8) E("TYPE_INT8", 6, 3, 1) E("TYPE_INT16", 7, 5, 2) E("TYPE_INT32", 8, 6, 4)  \
  E("TYPE_INT64", 9, 7, 8) E("TYPE_FP16", 10, 10, 2) E("TYPE_FP32", 11, 1, 4) E("TYPE_FP64", 12, 11, 8)
