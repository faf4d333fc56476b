# The kernels, for everyone who compiles them.
set(ROLLCALL_DEVICE_SOURCES attention.cu elementwise.cu kernel_table.cu kv_blocks.cu linear.cu
  log_softmax.cu norm.cu)
list(TRANSFORM ROLLCALL_DEVICE_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
