# CUDA kernels are compiled where an nvcc is found: in ROLLCALL_CUDA_ROOT (the toolkit that
# ./dev setup takes from PyPI), in CUDA_HOME or on the PATH. No GPU is needed for that.
set(ROLLCALL_CUDA AUTO CACHE STRING "Compile the CUDA kernels: ON, OFF, or AUTO (when an nvcc is there)")
set_property(CACHE ROLLCALL_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ROLLCALL_CUDA_ROOT "" CACHE PATH "Directory of a CUDA toolkit, with bin/nvcc")
set(ROLLCALL_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING
  "What the kernels are compiled for: code for A100 and H100/H200, PTX for what is newer")
set(ROLLCALL_HAS_CUDA OFF)
if(ROLLCALL_CUDA)
  find_program(ROLLCALL_NVCC nvcc HINTS ${ROLLCALL_CUDA_ROOT}/bin $ENV{CUDA_HOME}/bin
    /usr/local/cuda/bin)
  if(ROLLCALL_NVCC)
    set(ENV{CUDACXX} ${ROLLCALL_NVCC})
    if(ROLLCALL_CUDA STREQUAL "AUTO")
      include(CheckLanguage)
      check_language(CUDA)
    endif()
  endif()
  if(ROLLCALL_NVCC AND (CMAKE_CUDA_COMPILER OR NOT ROLLCALL_CUDA STREQUAL "AUTO"))
    set(CMAKE_CUDA_ARCHITECTURES ${ROLLCALL_CUDA_ARCHITECTURES})
    if(ROLLCALL_CCACHE)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${ROLLCALL_CCACHE})
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(ROLLCALL_HAS_CUDA ON)
  elseif(ROLLCALL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "no nvcc in ROLLCALL_CUDA_ROOT ('${ROLLCALL_CUDA_ROOT}'), CUDA_HOME or the "
      "PATH. Run ./dev setup, which installs one, or configure with -DROLLCALL_CUDA=OFF.")
  else()
    message(STATUS "No nvcc that works: the CUDA kernels are not compiled")
  endif()
endif()

# rollcall::torch_cuda: CUDA's half of LibTorch. The CPU wheel has its headers but for one that is
# made by the build and none of its libraries: what uses them compiles there and is not linked.
set(ROLLCALL_HAS_CUDA_TORCH OFF)
if(ROLLCALL_HAS_CUDA AND ROLLCALL_ENGINE)
  add_library(rollcall_torch_cuda INTERFACE)
  add_library(rollcall::torch_cuda ALIAS rollcall_torch_cuda)
  target_link_libraries(rollcall_torch_cuda INTERFACE rollcall::torch)
  target_include_directories(rollcall_torch_cuda SYSTEM INTERFACE
    ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  if(EXISTS ${ROLLCALL_TORCH_ROOT}/lib/libtorch_cuda.so)
    set(ROLLCALL_HAS_CUDA_TORCH ON)
    # Kernels register themselves as the libraries are loaded: the linker must not leave them out.
    target_link_options(rollcall_torch_cuda INTERFACE -Wl,--no-as-needed)
    target_link_libraries(rollcall_torch_cuda INTERFACE
      ${ROLLCALL_TORCH_ROOT}/lib/libtorch_cuda.so ${ROLLCALL_TORCH_ROOT}/lib/libc10_cuda.so)
  else()
    target_compile_definitions(rollcall_torch_cuda INTERFACE C10_USING_CUSTOM_GENERATED_MACROS)
  endif()
endif()
