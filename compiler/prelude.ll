; What a kernel needs of a runtime, linked into each kernel and inlined: a few functions over the caller's context.
; fusebn_context is {parallel_for, pool, launch, allocate, device, take, give} (kernel_abi.h).

%fusebn_context = type { ptr, ptr, ptr, ptr, ptr, ptr, ptr }

define i32 @halide_do_par_for(ptr %context, ptr %task, i32 %min, i32 %count, ptr %closure) {
  %parallel_for = load ptr, ptr %context, align 8
  %result = tail call i32 %parallel_for(ptr %context, ptr %task, i32 %min, i32 %count, ptr %closure)
  ret i32 %result
}

; Whole cache lines, and one more: a vector may start in the last element's line.
define ptr @halide_malloc(ptr %context, i64 %bytes) {
  %padded = add i64 %bytes, 127
  %lines = and i64 %padded, -64
  %take_field = getelementptr %fusebn_context, ptr %context, i64 0, i32 5
  %take = load ptr, ptr %take_field, align 8
  %memory = tail call noalias align 64 ptr %take(ptr %context, i64 %lines) nounwind
  ret ptr %memory
}

define void @halide_free(ptr %context, ptr %memory) {
  %give_field = getelementptr %fusebn_context, ptr %context, i64 0, i32 6
  %give = load ptr, ptr %give_field, align 8
  tail call void %give(ptr %context, ptr %memory) nounwind
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
