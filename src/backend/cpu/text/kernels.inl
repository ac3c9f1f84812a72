// All of the kernel text, in the order in which it builds on itself. A file kernels_*.cpp
// includes this after the vectors of its instruction set.

// clang-format off
#include "backend/cpu/text/formats32.inl"
#include "backend/cpu/text/formats256.inl"
#include "backend/cpu/text/interleaved.inl"
#include "backend/cpu/text/matmul_float.inl"
#include "backend/cpu/text/matmul_quant.inl"
#include "backend/cpu/text/math.inl"
#include "backend/cpu/text/rows.inl"
#include "backend/cpu/text/quantize.inl"
#include "backend/cpu/text/page_formats.inl"
#include "backend/cpu/text/attention.inl"
#include "backend/cpu/text/recurrent.inl"
#include "backend/cpu/text/table.inl"
// clang-format on
