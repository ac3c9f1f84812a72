# One library per folder of src/. Sources are found, so a new file needs no line here:
#   x.cpp           part of the floor's library
#   x_avx2.cpp      the same, compiled for x86-64 with AVX2
#   x_avx512.cpp    the same, compiled for AVX-512 with VNNI and BF16
#   x_amx.cpp       the same, with the tiles of AMX besides
#   x.cu            part of it, compiled by nvcc, where MILLRACE_CUDA is on; x_without_cuda.cpp where it is not
#   x_test.cpp      a test program of its own
set(MILLRACE_AVX2_FLAGS -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(MILLRACE_AVX512_FLAGS ${MILLRACE_AVX2_FLAGS} -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl
    -mavx512vnni -mavx512bf16 -mavx512vbmi -mprefer-vector-width=512
    -Wno-uninitialized)  # g++ 12 sees its own intrinsics use _mm512_undefined (GCC bug 105593)
set(MILLRACE_AMX_FLAGS ${MILLRACE_AVX512_FLAGS} -mamx-tile -mamx-int8 -mamx-bf16)

function(millrace_floor name)
  cmake_parse_arguments(FLOOR "" "" "ON;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/${name}/*.cpp" "${CMAKE_SOURCE_DIR}/src/${name}/*.h")
  if(MILLRACE_CUDA)
    file(GLOB_RECURSE kernels CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/${name}/*.cu")
    list(FILTER sources EXCLUDE REGEX "_without_cuda\\.cpp$")
    list(APPEND sources ${kernels})
  endif()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  add_library(millrace_${name} STATIC ${sources})
  target_include_directories(millrace_${name} PUBLIC "${CMAKE_SOURCE_DIR}/src")
  list(TRANSFORM FLOOR_ON PREPEND millrace_)
  target_link_libraries(millrace_${name} PUBLIC ${FLOOR_ON} ${FLOOR_LIBS})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    foreach(source IN LISTS sources)
      if(source MATCHES "_avx2\\.cpp$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${MILLRACE_AVX2_FLAGS}")
      elseif(source MATCHES "_avx512\\.cpp$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${MILLRACE_AVX512_FLAGS}")
      elseif(source MATCHES "_amx\\.cpp$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${MILLRACE_AMX_FLAGS}")
      endif()
    endforeach()
  endif()
  if(MILLRACE_TESTS)
    foreach(test IN LISTS tests)
      millrace_test(${test} millrace_${name})
    endforeach()
  endif()
endfunction()

add_custom_target(threaded_tests)

# A test program: one file, one entry of ctest, named after its path (base/json_test).
function(millrace_test file)
  file(RELATIVE_PATH path "${CMAKE_SOURCE_DIR}" "${file}")
  string(REGEX REPLACE "^src/" "" path "${path}")
  string(REGEX REPLACE "\\.cpp$" "" test "${path}")
  string(REPLACE "/" "." target "${test}")
  add_executable(${target} ${file})
  target_link_libraries(${target} PRIVATE ${ARGN} GTest::gtest_main)
  target_compile_definitions(${target} PRIVATE MILLRACE_SOURCE_DIR="${CMAKE_SOURCE_DIR}" MILLRACE_DATA_DIR="${MILLRACE_DATA_DIR}")
  add_test(NAME ${test} COMMAND ${target})
  if(test MATCHES "^(engine/|backend/cpu/|backend/ranks/|base/thread_pool|base/channel|text/tokenizers/gguf)")
    set_tests_properties(${test} PROPERTIES LABELS threads)  # also run under the thread sanitizer
    add_dependencies(threaded_tests ${target})
  endif()
endfunction()

function(millrace_check_floors)
  list(JOIN ARGN "," floors)
  add_custom_target(check_floors ALL
    COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR}/src -DFLOORS=${floors} -P ${CMAKE_SOURCE_DIR}/cmake/check_floors.cmake
    COMMENT "Checking that no floor includes a higher one" VERBATIM)
  foreach(floor IN LISTS ARGN)
    add_dependencies(millrace_${floor} check_floors)
  endforeach()
endfunction()
