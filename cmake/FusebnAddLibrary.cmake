# fusebn_add_library(<name>
#   SPEC <file.toml>
#   | MODEL <file.onnx> BATCH <n | any> [OPS <op>...] [LAYOUT <NCHW | NHWC>] [DTYPE <type>] [NO_RESIDUAL]
#   [TARGETS <instruction set>...] [RECORDS <file.jsonl>...] [TUNED_ON <machine>...] [STRICT])
#
# Builds a library of batch-norm kernels and a target <name> for target_link_libraries(app PRIVATE <name>). That brings
# the kernels, the header <name>.h and fusebn's runtime: there is nothing else to link or include. <name> is the
# library's name too, so its table is <name>::kernels().
#
#   SPEC      the kernels, as docs/spec.md describes them; relative to the current source directory
#   MODEL     an ONNX model whose batch norms are to have kernels; needs a Python with the package onnx
#   BATCH     the batch extent of the model, or "any" where only run time knows it
#   OPS       inference (the default), train_forward, backward
#   LAYOUT    NCHW (the default), or NHWC for a program that holds its tensors channels-last
#   DTYPE     f32, bf16 or f16: the type of the tensors, where it is to be another than the model's own
#   NO_RESIDUAL  keeps an Add behind a batch norm apart; by default its kernel adds too
#   TARGETS   x86-64, x86-64-avx2, x86-64-avx512 (all three by default), host, cuda-sm_80 and its like, opencl;
#             overrides those of a SPEC
#   RECORDS   what `fusebn tune` found (docs/tuning.md): schedules for the processors it ran on, and this machine's
#             devices
#   TUNED_ON  parts of what the machines and devices are called whose records count, where not all do
#   STRICT    fails where a record is of other versions of fusebn, Halide or LLVM
#
# Variables:
#   FUSEBN_TOOL     the fusebn command to run, where it is not the package's own: a cross build needs the host's
#   FUSEBN_PYTHON   the Python for MODEL; by default the tool looks for one itself
#
# The files are in ${CMAKE_CURRENT_BINARY_DIR}/fusebn/<name>: lib<name>.a, <name>.h, <name>.json (what was built) and,
# for a MODEL, <name>.toml (what was imported).
include_guard(DIRECTORY)

set(FUSEBN_TOOL "" CACHE FILEPATH "The fusebn command that builds kernels; empty: the one of the package")
mark_as_advanced(FUSEBN_TOOL)

function(fusebn_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_RESIDUAL;STRICT" "SPEC;MODEL;BATCH;LAYOUT;DTYPE"
                        "OPS;TARGETS;RECORDS;TUNED_ON")
  if(NOT arg_NO_RESIDUAL)
    unset(arg_NO_RESIDUAL) # a flag that is not given is FALSE; all others are not defined
  endif()
  set(call "fusebn_add_library(${name})")

  # Mistakes are answered here, at configure time, where they can be; the tool answers the rest when it builds.
  if(NOT name MATCHES "^[A-Za-z][A-Za-z0-9_]*$")
    message(FATAL_ERROR "${call}: the name must be a C identifier: it names a header, a namespace and a library")
  endif()
  if(TARGET ${name})
    message(FATAL_ERROR "${call}: there is a target ${name} already; every library needs a name of its own")
  endif()
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${call}: found ${arg_UNPARSED_ARGUMENTS}; allowed: SPEC, MODEL, BATCH, OPS, LAYOUT, TARGETS, "
                        "DTYPE, NO_RESIDUAL, RECORDS, TUNED_ON, STRICT")
  endif()
  if(DEFINED arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${call}: nothing stands behind ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  if(DEFINED arg_SPEC AND DEFINED arg_MODEL)
    message(FATAL_ERROR "${call}: SPEC and MODEL are both given; a library is made from one of them")
  elseif(NOT DEFINED arg_SPEC AND NOT DEFINED arg_MODEL)
    message(FATAL_ERROR "${call}: neither SPEC <file.toml> nor MODEL <file.onnx> is given")
  endif()
  if(DEFINED arg_SPEC)
    foreach(option IN ITEMS BATCH OPS LAYOUT DTYPE NO_RESIDUAL)
      if(DEFINED arg_${option})
        message(FATAL_ERROR "${call}: ${option} belongs to MODEL; with SPEC, the file says it")
      endif()
    endforeach()
    set(input "${arg_SPEC}")
  else()
    if(NOT DEFINED arg_BATCH)
      message(FATAL_ERROR "${call}: MODEL needs BATCH <n>, or BATCH any")
    endif()
    set(input "${arg_MODEL}")
  endif()
  cmake_path(ABSOLUTE_PATH input BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
  get_source_file_property(generated "${input}" GENERATED)
  if(NOT generated AND NOT EXISTS "${input}")
    message(FATAL_ERROR "${call}: ${input} does not exist")
  endif()

  # The command, and what a change of it must rebuild.
  if(FUSEBN_TOOL)
    set(tool "${FUSEBN_TOOL}")
    set(tool_depends)
    if(IS_ABSOLUTE "${FUSEBN_TOOL}" AND EXISTS "${FUSEBN_TOOL}")
      set(tool_depends "${FUSEBN_TOOL}")
    endif()
  elseif(TARGET fusebn::tool)
    set(tool "$<TARGET_FILE:fusebn::tool>")
    get_target_property(aliased fusebn::tool ALIASED_TARGET)
    if(aliased)
      set(tool_depends ${aliased} "$<TARGET_FILE:${aliased}>")
    else()
      set(tool_depends "$<TARGET_FILE:fusebn::tool>")
    endif()
  else()
    message(FATAL_ERROR "${call}: there is no fusebn command; set FUSEBN_TOOL to one that runs on this machine")
  endif()

  set(directory "${CMAKE_CURRENT_BINARY_DIR}/fusebn/${name}")
  set(library "${directory}/lib${name}.a")
  set(header "${directory}/${name}.h")
  set(manifest "${directory}/${name}.json")
  file(MAKE_DIRECTORY "${directory}") # an imported target's include directory must exist when CMake generates

  set(targets)
  if(DEFINED arg_TARGETS)
    list(JOIN arg_TARGETS "," targets)
    set(targets --targets "${targets}")
  endif()

  set(tuning)
  set(records)
  foreach(file IN LISTS arg_RECORDS)
    cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
    if(NOT EXISTS "${file}")
      message(FATAL_ERROR "${call}: RECORDS: ${file} does not exist")
    endif()
    list(APPEND records "${file}")
  endforeach()
  if(records)
    list(APPEND tuning --records ${records})
    foreach(machine IN LISTS arg_TUNED_ON)
      list(APPEND tuning --tuned-on "${machine}")
    endforeach()
    if(arg_STRICT)
      list(APPEND tuning --strict)
    endif()
  elseif(DEFINED arg_TUNED_ON OR arg_STRICT)
    message(FATAL_ERROR "${call}: TUNED_ON and STRICT belong to RECORDS, which is not given")
  endif()

  set(spec "${input}")
  if(DEFINED arg_MODEL)
    set(spec "${directory}/${name}.toml")
    set(options)
    if(DEFINED arg_OPS)
      list(JOIN arg_OPS "," ops)
      list(APPEND options --ops "${ops}")
    endif()
    if(DEFINED arg_LAYOUT)
      list(APPEND options --layout "${arg_LAYOUT}")
    endif()
    if(DEFINED arg_DTYPE)
      list(APPEND options --dtype "${arg_DTYPE}")
    endif()
    if(arg_NO_RESIDUAL)
      list(APPEND options --no-residual)
    endif()
    set(environment)
    if(FUSEBN_PYTHON)
      set(environment "${CMAKE_COMMAND}" -E env "FUSEBN_PYTHON=${FUSEBN_PYTHON}")
    endif()
    # The script is part of the tool, though not of its executable: in the sources, or installed in the same prefix. Its
    # modules lie beside it.
    set(script)
    foreach(place IN ITEMS "../compiler" "../../../share/fusebn")
      cmake_path(APPEND CMAKE_CURRENT_FUNCTION_LIST_DIR "${place}" "import_onnx.py" OUTPUT_VARIABLE candidate)
      cmake_path(NORMAL_PATH candidate)
      if(EXISTS "${candidate}")
        cmake_path(REPLACE_FILENAME candidate "import_*.py")
        file(GLOB script "${candidate}")
        break()
      endif()
    endforeach()
    add_custom_command(
      OUTPUT "${spec}"
      COMMAND ${environment} "${tool}" import "${input}" --batch ${arg_BATCH} ${options} --name ${name} ${targets} -o
              "${spec}"
      DEPENDS "${input}" ${tool_depends} ${script}
      COMMENT "Importing the batch norms of ${name}"
      VERBATIM)
    set(targets) # the spec has them now
  endif()

  add_custom_command(
    OUTPUT "${library}" "${header}" "${manifest}"
    COMMAND "${tool}" build "${spec}" -o "${directory}" --name ${name} ${targets} ${tuning} --quiet
    DEPENDS "${spec}" ${records} ${tool_depends}
    COMMENT "Building the batch-norm kernels of ${name}"
    VERBATIM)
  add_custom_target(${name}_kernels DEPENDS "${library}" "${header}" "${manifest}")

  # Imported, since CMake does not build it; the dependency on the custom target is followed by whoever links it, which
  # puts the header before the first compile and the library before the link.
  add_library(${name} STATIC IMPORTED GLOBAL)
  add_dependencies(${name} ${name}_kernels)
  set_target_properties(
    ${name}
    PROPERTIES IMPORTED_LOCATION "${library}"
               IMPORTED_LINK_INTERFACE_LANGUAGES CXX
               INTERFACE_INCLUDE_DIRECTORIES "${directory}"
               INTERFACE_LINK_LIBRARIES fusebn::runtime)
endfunction()
