; What a device's kernel needs of a runtime, linked into each and inlined. fusebn_context begins with {parallel_for,
; pool, launch, allocate, device} (kernel_abi.h); @fusebn_device_code is the kernel's own.

%context = type { ptr, ptr, ptr, ptr, ptr }

@fusebn_device_code = external constant i8
@device_interface = private constant i8 0

define ptr @halide_INTERFACE_device_interface() {
  ret ptr @device_interface
}

define i32 @halide_INTERFACE_initialize_kernels(ptr %context, ptr %state, ptr %text, i32 %bytes) {
  store ptr @fusebn_device_code, ptr %state, align 8
  ret i32 0
}

define void @halide_INTERFACE_finalize_kernels(ptr %context, ptr %state) {
  ret void
}

define i32 @halide_INTERFACE_run(ptr %context, ptr %code, ptr %function, i32 %gx, i32 %gy, i32 %gz, i32 %bx, i32 %by,
                                 i32 %bz, i32 %shared, ptr %sizes, ptr %arguments, ptr %is_buffer) {
  %grid = alloca [3 x i32], align 4
  %block = alloca [3 x i32], align 4
  %grid_y = getelementptr i32, ptr %grid, i64 1
  %grid_z = getelementptr i32, ptr %grid, i64 2
  %block_y = getelementptr i32, ptr %block, i64 1
  %block_z = getelementptr i32, ptr %block, i64 2
  store i32 %gx, ptr %grid, align 4
  store i32 %gy, ptr %grid_y, align 4
  store i32 %gz, ptr %grid_z, align 4
  store i32 %bx, ptr %block, align 4
  store i32 %by, ptr %block_y, align 4
  store i32 %bz, ptr %block_z, align 4
  %launch_field = getelementptr %context, ptr %context, i64 0, i32 2
  %launch = load ptr, ptr %launch_field, align 8
  %result = call i32 %launch(ptr %context, ptr %code, ptr %function, ptr %grid, ptr %block, i32 %shared, ptr %sizes,
                             ptr %arguments, ptr %is_buffer)
  ret i32 %result
}

; Of a kernel's own buffers and, which does nothing, of its arguments.
define i32 @halide_device_malloc(ptr %context, ptr %buffer, ptr %interface) {
  %allocate_field = getelementptr %context, ptr %context, i64 0, i32 3
  %allocate = load ptr, ptr %allocate_field, align 8
  %result = call i32 %allocate(ptr %context, ptr %buffer)
  ret i32 %result
}

; The context's to take back, when the entry returns.
define i32 @halide_device_free(ptr %context, ptr %buffer) {
  ret i32 0
}

define void @halide_device_free_as_destructor(ptr %context, ptr %buffer) {
  ret void
}

; Arguments are on the device.
define i32 @halide_copy_to_device(ptr %context, ptr %buffer, ptr %interface) {
  ret i32 0
}

; A kernel's own buffers are on the device alone; the host's side of them has no bytes, and nobody looks at it.
define ptr @halide_malloc(ptr %context, i64 %bytes) {
  %none = icmp eq i64 %bytes, 0
  %memory = select i1 %none, ptr @device_interface, ptr null
  ret ptr %memory
}

define void @halide_free(ptr %context, ptr %memory) {
  ret void
}

; FUSEBN_KERNEL_OUT_OF_MEMORY
define i32 @halide_error_out_of_memory(ptr %context) {
  ret i32 -11
}

define i32 @halide_error_buffer_allocation_too_large(ptr %context, ptr %name, i64 %bytes, i64 %most) {
  ret i32 -11
}
