# rollcall_library(NAME SOURCES ... [DEPS ...] [PRIVATE_DEPS ...])
#   static library rollcall_NAME with alias rollcall::NAME; the include root is the repository.
# rollcall_binary(NAME SOURCES ... DEPS ...)
add_library(rollcall_flags INTERFACE)
target_include_directories(rollcall_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(rollcall_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  -Wno-missing-field-initializers  # options structs are given by the fields that differ
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  # libstdc++ 12 uses what it deprecates in its own stable_sort.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
  $<$<BOOL:${ROLLCALL_WERROR}>:-Werror>)
if(ROLLCALL_SANITIZE)
  target_compile_options(rollcall_flags INTERFACE -fsanitize=${ROLLCALL_SANITIZE}
    -fno-omit-frame-pointer)
  # Empty optionals and indices out of range end the process with a message.
  target_compile_definitions(rollcall_flags INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(rollcall_flags INTERFACE -fsanitize=${ROLLCALL_SANITIZE})
endif()
find_program(ROLLCALL_MOLD mold)
if(ROLLCALL_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT ROLLCALL_SANITIZE)
  target_link_options(rollcall_flags INTERFACE -fuse-ld=mold)
endif()

function(rollcall_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(rollcall_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(rollcall_${name} PUBLIC ${ARG_DEPS}
      PRIVATE ${ARG_PRIVATE_DEPS} rollcall_flags)
  else()
    add_library(rollcall_${name} INTERFACE)
    target_link_libraries(rollcall_${name} INTERFACE ${ARG_DEPS})
  endif()
  add_library(rollcall::${name} ALIAS rollcall_${name})
endfunction()

function(rollcall_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} rollcall_flags)
endfunction()

# rollcall_allocator(TARGET): links the allocator of a program that makes and frees many small
# messages. Nothing refers to it by name, so a reference is made up, lest the linker leave it out; the
# sanitizers bring allocators of their own.
function(rollcall_allocator target)
  if(NOT ROLLCALL_SANITIZE)
    target_link_libraries(${target} PRIVATE mimalloc)
    target_link_options(${target} PRIVATE -Wl,--undefined=mi_version)
  endif()
endfunction()
