// The products in bfloat16 of all formats, on the emulation: what takes longest to compile.
#include "backend/cuda/emulation/threads.h"
// After the names that it uses.
#include "backend/cuda/text/product_bf16.inl"
