# The package as its user meets it: installed into a prefix of its own, found, and linked by the project in consumer/.
# Once for each generator that is here; serial, since each of them builds two libraries of kernels.
find_program(FUSEBN_NINJA ninja HINTS "${CMAKE_MAKE_PROGRAM}")
find_program(FUSEBN_MAKE NAMES gmake make)
mark_as_advanced(FUSEBN_NINJA FUSEBN_MAKE)
foreach(generator IN ITEMS "Ninja" "Unix Makefiles")
  if(generator STREQUAL "Ninja")
    set(program "${FUSEBN_NINJA}")
    if(CMAKE_GENERATOR STREQUAL "Ninja")
      set(program "${CMAKE_MAKE_PROGRAM}")
    endif()
    set(test consumer.ninja)
  else()
    set(program "${FUSEBN_MAKE}")
    set(test consumer.makefiles)
  endif()
  if(NOT program)
    continue()
  endif()
  add_test(
    NAME ${test}
    COMMAND
      ${CMAKE_COMMAND} "-DFUSEBN_BUILD_DIR=${PROJECT_BINARY_DIR}" "-DSCRATCH=${CMAKE_CURRENT_BINARY_DIR}/${test}"
      "-DGENERATOR=${generator}" "-DMAKE_PROGRAM=${program}" "-DCXX_COMPILER=${CMAKE_CXX_COMPILER}"
      "-DPYTHON=${FUSEBN_PYTHON}" "-DCONFIG=$<CONFIG>" -P "${CMAKE_CURRENT_LIST_DIR}/consumer/run.cmake")
  set_tests_properties(${test} PROPERTIES RUN_SERIAL TRUE TIMEOUT 1200)
endforeach()
