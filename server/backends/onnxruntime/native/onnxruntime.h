/* Of ONNX Runtime's C API (onnxruntime_c_api.h), what this folder calls. OrtApi is a table of functions that only
 * grows at its end, so a function's place in it never changes. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 19 /* of 1.19, the first whose Python wheel has the C library */

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtShape OrtShape; /* OrtTensorTypeAndShapeInfo */

typedef struct {
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)(void);
} OrtApiBase;

enum { LOGGING_WARNING = 2, LOGGING_FATAL = 4, ALLOCATOR_DEVICE = 0, MEMORY_DEFAULT = 0 };

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
  F(SessionGetInputCount, 30, OrtStatus*, (const OrtSession*, size_t*))                                       \
  F(SessionGetOutputCount, 31, OrtStatus*, (const OrtSession*, size_t*))                                      \
  F(SessionGetOverridableInitializerCount, 32, OrtStatus*, (const OrtSession*, size_t*))                      \
  F(SessionGetInputTypeInfo, 33, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))                      \
  F(SessionGetOutputTypeInfo, 34, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))                     \
  F(SessionGetOverridableInitializerTypeInfo, 35, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))     \
  F(SessionGetInputName, 36, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))                  \
  F(SessionGetOutputName, 37, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))                 \
  F(SessionGetOverridableInitializerName, 38, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**)) \
  F(CreateRunOptions, 39, OrtStatus*, (OrtRunOptions**))                                                      \
  F(RunOptionsSetRunLogSeverityLevel, 41, OrtStatus*, (OrtRunOptions*, int))                                  \
  F(RunOptionsSetTerminate, 46, OrtStatus*, (OrtRunOptions*))                                                 \
  F(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                                           \
    (const OrtMemoryInfo*, void* data, size_t byte_size, const int64_t* shape, size_t dims_count, int type,   \
     OrtValue**))                                                                                             \
  F(IsTensor, 50, OrtStatus*, (const OrtValue*, int*))                                                        \
  F(GetTensorMutableData, 51, OrtStatus*, (OrtValue*, void**))                                                \
  F(CastTypeInfoToTensorInfo, 55, OrtStatus*, (const OrtTypeInfo*, const OrtShape**))                         \
  F(GetTensorElementType, 60, OrtStatus*, (const OrtShape*, int*))                                            \
  F(GetDimensionsCount, 61, OrtStatus*, (const OrtShape*, size_t*))                                           \
  F(GetDimensions, 62, OrtStatus*, (const OrtShape*, int64_t*, size_t))                                       \
  F(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue*, OrtShape**))                                     \
  F(CreateCpuMemoryInfo, 69, OrtStatus*, (int allocator, int memory, OrtMemoryInfo**))                        \
  F(AllocatorFree, 76, OrtStatus*, (OrtAllocator*, void*))                                                    \
  F(GetAllocatorWithDefaultOptions, 78, OrtStatus*, (OrtAllocator**))                                         \
  F(ReleaseEnv, 92, void, (OrtEnv*))                                                                          \
  F(ReleaseStatus, 93, void, (OrtStatus*))                                                                    \
  F(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo*))                                                            \
  F(ReleaseSession, 95, void, (OrtSession*))                                                                  \
  F(ReleaseValue, 96, void, (OrtValue*))                                                                      \
  F(ReleaseRunOptions, 97, void, (OrtRunOptions*))                                                            \
  F(ReleaseTypeInfo, 98, void, (OrtTypeInfo*))                                                                \
  F(ReleaseShape, 99, void, (OrtShape*))                                                                      \
  F(ReleaseSessionOptions, 100, void, (OrtSessionOptions*))                                                   \
  F(AddRunConfigEntry, 165, OrtStatus*, (OrtRunOptions*, const char* key, const char* value))

#define DECLARE(name, place, result, arguments) result(*name) arguments;
typedef struct {
  ORT_FUNCTIONS(DECLARE)
} Ort;
#undef DECLARE

/* ONNX's element types and Triton's, with the bytes of an element; strings and bfloat16 are not served here. */
#define ELEMENT_TYPES(E)                                                                         \
  E("BOOL", 1, 9, 1) E("UINT8", 2, 2, 1) E("UINT16", 3, 4, 2) E("UINT32", 4, 12, 4)              \
  E("UINT64", 5, 13, 8) E("INT8", 6, 3, 1) E("INT16", 7, 5, 2) E("INT32", 8, 6, 4)               \
  E("INT64", 9, 7, 8) E("FP16", 10, 10, 2) E("FP32", 11, 1, 4) E("FP64", 12, 11, 8)
