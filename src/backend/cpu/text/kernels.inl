// All texts, in the order in which they build on each other.
// clang-format off
#include "backend/cpu/text/formats32.inl"
#include "backend/cpu/text/formats256.inl"
#include "backend/cpu/text/int8_blocks.inl"
#include "backend/cpu/text/floats.inl"
#include "backend/cpu/text/functions.inl"
#include "backend/cpu/text/attention.inl"
#include "backend/cpu/text/table.inl"
// clang-format on
