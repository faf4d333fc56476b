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
find_package(OpenSSL REQUIRED)
# Headers of Beast and Asio; no library of Boost is linked.
find_package(Boost 1.74 REQUIRED)
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

# --- Arrow ----------------------------------------------------------------------------------
# Parquet files are read by a program of its own, rollcall-parquet, with the Arrow libraries of the
# pyarrow wheel. Optional: without them everything else builds and says that it cannot read Parquet.
# ROLLCALL_ARROW_ROOT is the directory of the `pyarrow` Python package.
set(ROLLCALL_ARROW_ROOT "" CACHE PATH "Directory of the pyarrow package of the pyarrow wheel")
set(ROLLCALL_PARQUET AUTO CACHE STRING "Build the Parquet reader: ON, OFF, or AUTO (when Arrow is there)")
set_property(CACHE ROLLCALL_PARQUET PROPERTY STRINGS AUTO ON OFF)
set(ROLLCALL_HAS_PARQUET OFF)
if(ROLLCALL_PARQUET)
  file(GLOB ROLLCALL_ARROW_LIBRARY ${ROLLCALL_ARROW_ROOT}/libarrow.so.[0-9]*)
  file(GLOB ROLLCALL_PARQUET_LIBRARY ${ROLLCALL_ARROW_ROOT}/libparquet.so.[0-9]*)
  if(ROLLCALL_ARROW_ROOT AND ROLLCALL_ARROW_LIBRARY AND ROLLCALL_PARQUET_LIBRARY
      AND EXISTS ${ROLLCALL_ARROW_ROOT}/include/parquet/arrow/reader.h)
    set(ROLLCALL_HAS_PARQUET ON)
    list(GET ROLLCALL_ARROW_LIBRARY 0 ROLLCALL_ARROW_LIBRARY)
    list(GET ROLLCALL_PARQUET_LIBRARY 0 ROLLCALL_PARQUET_LIBRARY)
    add_library(rollcall_arrow INTERFACE)
    add_library(rollcall::arrow ALIAS rollcall_arrow)
    target_include_directories(rollcall_arrow SYSTEM INTERFACE ${ROLLCALL_ARROW_ROOT}/include)
    target_link_libraries(rollcall_arrow INTERFACE
      ${ROLLCALL_PARQUET_LIBRARY} ${ROLLCALL_ARROW_LIBRARY})
    target_link_options(rollcall_arrow INTERFACE
      -Wl,-rpath,${ROLLCALL_ARROW_ROOT} -Wl,-rpath-link,${ROLLCALL_ARROW_ROOT})
  elseif(ROLLCALL_PARQUET STREQUAL "ON")
    message(FATAL_ERROR "ROLLCALL_ARROW_ROOT ('${ROLLCALL_ARROW_ROOT}') is not the pyarrow package "
      "of a pyarrow wheel: libarrow.so.N, libparquet.so.N or its headers are missing. Run ./dev "
      "setup, which installs it, or configure with -DROLLCALL_PARQUET=OFF.")
  else()
    message(STATUS "No Arrow in ROLLCALL_ARROW_ROOT ('${ROLLCALL_ARROW_ROOT}'): this build will "
      "not read Parquet")
  endif()
endif()
