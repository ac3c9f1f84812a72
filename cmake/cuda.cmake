# nvcc, for src/backend/cuda/gpu/*.cu. The runtime is linked statically: the program starts on machines without a GPU.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # and from the last one's PTX whatever comes after it
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda/bin REQUIRED)
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
enable_language(CUDA)
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know it of nvcc 13
endif()
# As for C++, a fused multiply-add is one where the source says so: the emulation then computes the same bits, but for
# exp and its like. fmt 9 believes that nvcc has no constexpr.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;--expt-relaxed-constexpr;-DFMT_USE_CONSTEXPR=1;-Xcompiler=-Wall;-Werror=all-warnings>")
