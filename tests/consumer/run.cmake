# Installs fusebn into a prefix of its own, builds the project beside this file against it, and runs it. Then the
# mistakes that fusebn_add_library must answer when it is configured.
#
#   cmake -DFUSEBN_BUILD_DIR=<built fusebn> -DSCRATCH=<folder to fill> -DGENERATOR=<generator>
#         [-DMAKE_PROGRAM=..] [-DCXX_COMPILER=..] [-DPYTHON=<with onnx>] [-DCONFIG=..] -P run.cmake
cmake_minimum_required(VERSION 3.25)

foreach(variable IN ITEMS FUSEBN_BUILD_DIR SCRATCH GENERATOR)
  if(NOT ${variable})
    message(FATAL_ERROR "${variable} is not given")
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${SCRATCH}")
set(prefix "${SCRATCH}/prefix with a space") # as a user's home may have one
set(config)
if(CONFIG)
  set(config --config ${CONFIG})
endif()
run("${CMAKE_COMMAND}" --install "${FUSEBN_BUILD_DIR}" --prefix "${prefix}" ${config})

set(configure
    "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${prefix}"
    -DCMAKE_BUILD_TYPE=Release)
foreach(pair IN ITEMS "CMAKE_MAKE_PROGRAM=MAKE_PROGRAM" "CMAKE_CXX_COMPILER=CXX_COMPILER" "FUSEBN_PYTHON=PYTHON")
  string(REGEX MATCH "^(.*)=(.*)$" pair "${pair}")
  if(${CMAKE_MATCH_2})
    list(APPEND configure "-D${CMAKE_MATCH_1}=${${CMAKE_MATCH_2}}")
  endif()
endforeach()

run(${configure} -B "${SCRATCH}/build")
run("${CMAKE_COMMAND}" --build "${SCRATCH}/build" --parallel 2)
run("${SCRATCH}/build/app")

# Nothing has changed, so nothing may be built again: kernels take longer than the rest of a program.
file(TIMESTAMP "${SCRATCH}/build/from_spec/fusebn/small_bn/libsmall_bn.a" before "%s")
execute_process(COMMAND "${CMAKE_COMMAND}" -E sleep 1.1)
run("${CMAKE_COMMAND}" --build "${SCRATCH}/build" --parallel 2)
file(TIMESTAMP "${SCRATCH}/build/from_spec/fusebn/small_bn/libsmall_bn.a" after "%s")
if(NOT before STREQUAL after)
  message(FATAL_ERROR "a second build made the kernels again")
endif()

foreach(mistake IN ITEMS same_name no_source two_sources no_file no_batch bad_name unknown_option option_of_model
        no_records strict_alone)
  execute_process(
    COMMAND ${configure} -B "${SCRATCH}/mistake" "-DMISTAKE=${mistake}"
    RESULT_VARIABLE result
    OUTPUT_QUIET
    ERROR_VARIABLE said)
  file(READ "${CMAKE_CURRENT_LIST_DIR}/mistakes/${mistake}.txt" expected)
  string(STRIP "${expected}" expected)
  string(REGEX REPLACE "[ \n]+" " " said "${said}") # CMake breaks lines as it likes
  string(FIND "${said}" "${expected}" place)
  if(result EQUAL 0 OR place EQUAL -1)
    message(FATAL_ERROR "${mistake}: expected a refusal with\n  ${expected}\nfound\n  ${said}")
  endif()
endforeach()
message("the consumer builds, runs, and its mistakes are answered (${GENERATOR})")
