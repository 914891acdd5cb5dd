/* What Python's calls cost most by, without ctypes: for the package flashladder alone, and not installed.

   ctypes costs a microsecond or two for each call, most of it for shapes, strides, dtypes and devices that are those of the
   call before. So Python makes a function of its own of fl_python_run (PyCFunction_NewEx, METH_FASTCALL), which is given the
   tensors themselves, asks them by the functions of DLPack's exchange interface what they look like, and runs if that is what
   it was when Python checked and described them. Whatever differs is answered with FL_PYTHON_DESCRIBE, and Python describes
   anew. Nothing of Python's headers is needed: its functions come as pointers. */
#ifndef FLASHLADDER_PYTHON_RUN_H
#define FLASHLADDER_PYTHON_RUN_H

#include "capi/flashladder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FL_PYTHON_DESCRIBE = -1 };

/* What is called of Python. */
typedef struct fl_python_functions {
  void* (*as_pointer)(void* object);   /* PyLong_AsVoidPtr */
  void* (*from_long)(long value);      /* PyLong_FromLong */
  void (*clear_error)(void);           /* PyErr_Clear */
  void* (*save_thread)(void);          /* PyEval_SaveThread */
  void (*restore_thread)(void* state); /* PyEval_RestoreThread */
  const void* none;                    /* None itself */
} fl_python_functions;

/* Of DLPack's exchange interface, as a library of tensors has it (dmlc/dlpack, include/dlpack/dlpack.h). */
typedef struct fl_dlpack_functions {
  int (*tensor_of)(void* object, void* tensor);                       /* dltensor_from_py_object_no_sync */
  int (*current_stream)(int32_t type, int32_t device, void** stream); /* current_work_stream */
} fl_dlpack_functions;

/* Once, before all others. */
void fl_python_start(const fl_python_functions* python);

/* Bytes of the memory that fl_python_begin is given; fl_python_run and fl_python_learn take its address as `self`, an int. */
size_t fl_python_run_bytes(void);

/* arguments and the tensors are those of fl_attention_run, and stay where they are. device_type, device: DLPack's.
   several: there are other GPUs, one of which may be current. */
void fl_python_begin(void* memory, const fl_dlpack_functions* dlpack, fl_attention_arguments* arguments, fl_tensor* q,
                     fl_tensor* k, fl_tensor* v, fl_tensor* o, int32_t device_type, int32_t device, int32_t several);

/* (attention, planned_on, q, k, v, page_ids, o): ints and tensors; planned_on, v and page_ids may be None. An int: the status
   of fl_attention_run, or FL_PYTHON_DESCRIBE where anything is not as fl_python_learn found it. */
void* fl_python_run(void* self, void* const* arguments, intptr_t count);

/* (q, k, v, page_ids, o), as `arguments` describes them. An int: 1, or 0 where DLPack can't say what one looks like. */
void* fl_python_learn(void* self, void* const* arguments, intptr_t count);

/* The arrays of one call of an operation. fl_python_describe is given the address of this, an int, as its `self`. */
typedef struct fl_python_arrays {
  fl_dlpack_functions dlpack;
  int32_t several, reserved; /* as of fl_python_begin */
  fl_on on;
  fl_tensor tensors[6];
} fl_python_arrays;

/* (tensor ...), at most six: describes each of them, and their device with its current stream. An int: 1, or 0 where they are
   not all on one device, which must be the current one, or have a dtype that the library has not. */
void* fl_python_describe(void* self, void* const* arguments, intptr_t count);

#ifdef __cplusplus
}
#endif
#endif
