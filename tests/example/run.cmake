# Builds an example as its own CMakeLists.txt says, against an installed fusebn, and runs its programs.
#
#   cmake -DFUSEBN_BUILD_DIR=<built fusebn> -DSOURCE=<examples/resnet50> -DSCRATCH=<folder to fill> -DMAKE_PROGRAM=<ninja>
#         -DCXX_COMPILER=.. -DPROGRAMS=<a,b> -P run.cmake
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${SCRATCH}" COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${SCRATCH}")
file(MAKE_DIRECTORY "${SCRATCH}")
run("${CMAKE_COMMAND}" --install "${FUSEBN_BUILD_DIR}" --prefix "${SCRATCH}/prefix")
run("${CMAKE_COMMAND}" -S "${SOURCE}" -B build -G Ninja "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}"
    "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}" "-DCMAKE_PREFIX_PATH=${SCRATCH}/prefix" -DCMAKE_BUILD_TYPE=Release)
run("${CMAKE_COMMAND}" --build build)
string(REPLACE "," ";" programs "${PROGRAMS}")
foreach(program IN LISTS programs)
  run("${SCRATCH}/build/${program}")
endforeach()
if(PROGRAMS STREQUAL "resnet50_example" AND NOT EXISTS "${SCRATCH}/bn1.safetensors")
  message(FATAL_ERROR "the example saved no state")
endif()
