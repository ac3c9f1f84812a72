# How every target is compiled: C++20, warnings as errors, ccache and mold where present.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options(-fuse-ld=mold)
endif()

# No contraction: a*b+c is an fma only where the source says so. Otherwise the same sum could round
# differently in two kernels, and "same request, same bits" would depend on the compiler's mood.
set(MILLRACE_CXX_OPTIONS -Wall -Wextra -Wshadow -Wundef -Wnon-virtual-dtor -Woverloaded-virtual -Werror
    -Wno-missing-field-initializers  # designated initialisers leave the rest at its default
    -ffp-contract=off -fno-math-errno -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports std::string and std::vector internals under -O2 (GCC bugs 105329, 107852).
  list(APPEND MILLRACE_CXX_OPTIONS -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${MILLRACE_CXX_OPTIONS}>")

if(MILLRACE_SANITIZE)
  add_compile_options(-fsanitize=${MILLRACE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${MILLRACE_SANITIZE})
  add_compile_definitions(MILLRACE_SANITIZED=1)
endif()

# libFuzzer sees only code that was compiled for it.
if(MILLRACE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
