/* Errors of this library as Triton's, and lines in Triton's log. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "native.h"

enum { MESSAGE_SIZE = 4096 };

/* The bytes of the UTF-8 character at `text`; 0 if it is none, or a control character. */
static size_t character(const unsigned char* text)
{
  unsigned first = text[0];
  if (first < 0x80) return first >= 0x20 && first != 0x7f;
  size_t size = first >= 0xc2 && first < 0xe0   ? 2
                : first >= 0xe0 && first < 0xf0 ? 3
                : first >= 0xf0 && first < 0xf5 ? 4
                                                : 0;
  for (size_t i = 1; i < size; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  if (first == 0xc2 && text[1] < 0xa0) return 0;                                        /* C1 controls */
  if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90)) return 0; /* overlong */
  if ((first == 0xed && text[1] >= 0xa0) || (first == 0xf4 && text[1] >= 0x90))
    return 0; /* surrogates, beyond */
  return size;
}

bool readable(const char* text)
{
  const unsigned char* at = (const unsigned char*)text;
  for (size_t size; *at; at += size)
    if (!(size = character(at))) return false;
  return at != (const unsigned char*)text;
}

/* Names in messages come from files: they must not look like further lines of the log, nor break JSON. */
static void write_message(char* message, const char* format, va_list arguments)
{
  vsnprintf(message, MESSAGE_SIZE, format, arguments);
  for (size_t at = 0, size; message[at]; at += size)
    if (!(size = character((unsigned char*)message + at))) {
      message[at] = message[at] == '\n' || message[at] == '\t' ? ' ' : '?';
      size = 1;
    }
}

TRITONSERVER_Error* failure(int code, const char* format, ...)
{
  char message[MESSAGE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  write_message(message, format, arguments);
  va_end(arguments);
  return TRITONSERVER_ErrorNew(code, message);
}

TRITONSERVER_Error* no_memory(const char* model)
{
  return failure(ERROR_INTERNAL, "model '%s': there is no memory left", model);
}

static void drop(TRITONSERVER_Error* error) /* the log itself failed, so there is nowhere to say it */
{
  if (error) TRITONSERVER_ErrorDelete(error);
}

void log_line(int level, const char* format, ...)
{
  char message[MESSAGE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  write_message(message, format, arguments);
  va_end(arguments);
  drop(TRITONSERVER_LogMessage(level, "onnxruntime", 0, message));
}

void log_and_drop(TRITONSERVER_Error* error)
{
  if (!error) return;
  drop(TRITONSERVER_LogMessage(LOG_ERROR, "onnxruntime", 0, TRITONSERVER_ErrorMessage(error)));
  TRITONSERVER_ErrorDelete(error);
}

uint64_t now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
