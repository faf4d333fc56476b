# Everything comes from the system's packages except LibTorch, which is the PyTorch wheel.
# Configuring never downloads.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(mimalloc REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
find_package(ICU REQUIRED COMPONENTS uc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()

# --- LibTorch -------------------------------------------------------------------------------
# ROLLCALL_TORCH_ROOT is the directory of the `torch` Python package. Debian's own libtorch is
# never picked up: nothing here asks find_package(Torch).
set(ROLLCALL_TORCH_ROOT "" CACHE PATH "Directory of the torch package of the PyTorch wheel")
if(ROLLCALL_ENGINE)
  if(NOT EXISTS ${ROLLCALL_TORCH_ROOT}/lib/libtorch_cpu.so)
    message(FATAL_ERROR "ROLLCALL_TORCH_ROOT ('${ROLLCALL_TORCH_ROOT}') is not the torch package "
      "of a PyTorch wheel: lib/libtorch_cpu.so is missing. Run ./dev setup, which finds it.")
  endif()
  add_library(rollcall_torch INTERFACE)
  add_library(rollcall::torch ALIAS rollcall_torch)
  target_include_directories(rollcall_torch SYSTEM INTERFACE
    ${ROLLCALL_TORCH_ROOT}/include ${ROLLCALL_TORCH_ROOT}/include/torch/csrc/api/include)
  target_link_libraries(rollcall_torch INTERFACE
    ${ROLLCALL_TORCH_ROOT}/lib/libtorch_cpu.so ${ROLLCALL_TORCH_ROOT}/lib/libc10.so)
  target_link_options(rollcall_torch INTERFACE
    -Wl,-rpath,${ROLLCALL_TORCH_ROOT}/lib -Wl,-rpath-link,${ROLLCALL_TORCH_ROOT}/lib)
  # c10d's Gloo process group is compiled into libtorch_cpu; only its header wants gloo's headers
  # (Debian's libgloo-dev). libgloo itself must never be linked: same symbols, other versions.
  find_path(GLOO_INCLUDE_DIR gloo/config.h REQUIRED)
endif()
