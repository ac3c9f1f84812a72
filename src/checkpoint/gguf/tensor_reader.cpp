#include <algorithm>
#include <optional>
#include <string>

#include "checkpoint/gguf/layout.h"
#include "checkpoint/gguf/parts.h"
#include "checkpoint/gguf/type_names.h"

namespace millrace::gguf {
namespace {

constexpr size_t kMinInfoBytes = 8 + 1 + 4 + 4 + 8;  // a name of one byte, no dimensions

// A tensor as the file describes it, before it has its place in memory.
struct Info {
  std::string_view name;
  Tensor tensor;
  uint64_t n_bytes = 0;
  uint64_t offset = 0;  // from the start of the data
};

// Dimensions are stored innermost first; none means one element.
void read_shape(ByteReader& in, Info& info) {
  const auto n_dims = in.read<uint32_t>("the number of dimensions");
  if (n_dims > kMaxDims) {
    in.refuse("tensor \"{}\" has {} dimensions, more than {}", printable(info.name), n_dims, kMaxDims);
  }
  info.tensor.n_dims = static_cast<int>(std::max(n_dims, 1u));
  for (uint32_t i = 0; i < n_dims; ++i) {
    const auto n = in.read<uint64_t>("a dimension");
    if (n > INT64_MAX) in.refuse("tensor \"{}\" has a dimension of {}", printable(info.name), n);
    info.tensor.shape[n_dims - 1 - i] = static_cast<int64_t>(n);
  }
}

Dtype checked_type(const ByteReader& in, const Info& info, uint32_t type) {
  if (const auto dtype = dtype_of_ggml_type(type)) return *dtype;
  const std::string_view name = type_name(type);
  if (name.empty()) in.refuse("tensor \"{}\" has the unknown type {}", printable(info.name), type);
  in.refuse("tensor \"{}\" is stored as {} (type {}), which is not supported", printable(info.name), name,
            type);
}

// Zeros count as ones here, so that in no order can a product over the shape overflow.
bool is_size_in_range(const Tensor& tensor) {
  int64_t n = format_of(tensor.dtype).block_bytes;
  return std::ranges::all_of(
      tensor.shape, [&n](int64_t dim) { return !__builtin_mul_overflow(n, std::max<int64_t>(dim, 1), &n); });
}

uint64_t checked_size(const ByteReader& in, const Info& info) {
  const Format& format = format_of(info.tensor.dtype);
  if (info.tensor.n_cols() % format.block_elems != 0) {
    in.refuse("tensor \"{}\" has rows of {} elements, no multiple of the {} in a block of {}",
              printable(info.name), info.tensor.n_cols(), format.block_elems, format.name);
  }
  if (!is_size_in_range(info.tensor)) {
    in.refuse("tensor \"{}\" has a shape too large to count", printable(info.name));
  }
  return static_cast<uint64_t>(info.tensor.n_bytes());
}

Info read_info(ByteReader& in, uint64_t alignment) {
  Info info;
  info.name = in.string("the name of a tensor");
  if (info.name.empty()) in.refuse("the name of a tensor is empty (at byte {})", in.at());
  if (info.name.size() > kMaxNameBytes) {
    in.refuse("the name of a tensor has {} bytes, more than the {} allowed", info.name.size(), kMaxNameBytes);
  }
  in.take_memory(info.name.size());
  read_shape(in, info);
  info.tensor.dtype = checked_type(in, info, in.read<uint32_t>("the type of a tensor"));
  info.n_bytes = checked_size(in, info);
  info.offset = in.read<uint64_t>("the offset of a tensor");
  if (info.offset % alignment != 0) {
    in.refuse("tensor \"{}\" begins at offset {}, no multiple of the alignment {}", printable(info.name),
              info.offset, alignment);
  }
  return info;
}

// The tensor in memory. Its bytes must lie in the file; the padding after the last tensor need not.
NamedTensor place(const ByteReader& in, const Info& info, size_t data_begin) {
  const uint64_t n_data = in.file().size() - std::min(in.file().size(), data_begin);
  if (info.n_bytes > n_data || info.offset > n_data - info.n_bytes) {
    in.refuse(
        "cut off or corrupt: expected {} bytes for tensor \"{}\" at offset {} of the data, which has {}",
        info.n_bytes, printable(info.name), info.offset, n_data);
  }
  const size_t begin = std::min(in.file().size(), data_begin + info.offset);  // they differ for no bytes only
  Tensor tensor = info.tensor;
  tensor.data = const_cast<std::byte*>(in.file().data()) + begin;  // a Checkpoint lends it as const
  return {std::string(info.name), tensor};
}

void refuse_overlap(const ByteReader& in, std::vector<Info>& infos) {
  std::erase_if(infos, [](const Info& info) { return info.n_bytes == 0; });
  std::ranges::sort(infos, {}, &Info::offset);
  for (size_t i = 1; i < infos.size(); ++i) {
    if (infos[i - 1].offset + infos[i - 1].n_bytes <= infos[i].offset) continue;
    in.refuse("tensors \"{}\" and \"{}\" overlap", printable(infos[i - 1].name), printable(infos[i].name));
  }
}

}  // namespace

std::vector<NamedTensor> read_tensors(ByteReader& in, uint64_t n_tensors, uint64_t alignment) {
  in.need(n_tensors, kMinInfoBytes, "tensor descriptions");
  in.take_memory(n_tensors * (sizeof(Info) + sizeof(NamedTensor) + sizeof(uint32_t)));
  std::vector<Info> infos(n_tensors);
  for (Info& info : infos) info = read_info(in, alignment);
  const size_t data_begin = (in.at() + alignment - 1) / alignment * alignment;
  std::vector<NamedTensor> tensors;
  tensors.reserve(n_tensors);
  for (const Info& info : infos) tensors.push_back(place(in, info, data_begin));
  refuse_overlap(in, infos);
  return tensors;
}

}  // namespace millrace::gguf
