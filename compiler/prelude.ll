; What a kernel needs of a runtime, linked into each kernel and inlined: a few functions over the caller's context and
; libc. fusebn_context begins with its parallel_for (kernel_abi.h).

declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)

define i32 @halide_do_par_for(ptr %context, ptr %task, i32 %min, i32 %count, ptr %closure) {
  %parallel_for = load ptr, ptr %context, align 8
  %result = tail call i32 %parallel_for(ptr %context, ptr %task, i32 %min, i32 %count, ptr %closure)
  ret i32 %result
}

; Whole cache lines, and one more: a vector may start in the last element's line.
define ptr @halide_malloc(ptr %context, i64 %bytes) {
  %padded = add i64 %bytes, 127
  %lines = and i64 %padded, -64
  %memory = tail call ptr @aligned_alloc(i64 64, i64 %lines)
  ret ptr %memory
}

define void @halide_free(ptr %context, ptr %memory) {
  tail call void @free(ptr %memory)
  ret void
}

; FUSEBN_KERNEL_OUT_OF_MEMORY
define i32 @halide_error_out_of_memory(ptr %context) {
  ret i32 -11
}

; A stack or heap buffer of more than 2^31 bytes.
define i32 @halide_error_buffer_allocation_too_large(ptr %context, ptr %name, i64 %bytes, i64 %most) {
  ret i32 -11
}
