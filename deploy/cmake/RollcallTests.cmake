# rollcall_test(NAME SOURCES ... DEPS ... [TORCH] [TIMEOUT seconds] [LABELS ...])
#   One Catch2 binary, one ctest entry. TORCH picks the main that loads torch before Catch's CHECK.
function(rollcall_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} rollcall::test_main rollcall_flags)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT}
    LABELS "${ARG_LABELS}"
    ENVIRONMENT "OMP_NUM_THREADS=1;ROLLCALL_BUILD_DIR=${CMAKE_BINARY_DIR};ROLLCALL_PYTHON=${ROLLCALL_PYTHON}"
    SKIP_REGULAR_EXPRESSION "\\[skipped\\]")
endfunction()
