#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "checkpoint/packed_weight.h"
#include "quant/half.h"

namespace millrace {

const SafetensorsTensor& PackedTensors::need(std::string_view ending) const {
  if (const SafetensorsTensor* tensor = find(ending)) return *tensor;
  refuse(fmt::format("there is no tensor that ends in {}", ending));
}

void PackedTensors::refuse(std::string_view why) const {
  fail(ErrorKind::bad_model, "the quantised weight {}: {}", printable(stem_), why);
}

bool is_of_reals(const SafetensorsTensor& tensor) {
  return tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16" ||
         tensor.dtype == "F8_E8M0";
}

float real_at(const SafetensorsTensor& tensor, int64_t i) {
  switch (tensor.dtype[1]) {  // called for every block: no comparison of whole names
    case '3':
      return number_at<float>(tensor, i);
    case '1':
      return float_of_f16(number_at<uint16_t>(tensor, i));
    case 'F':
      return float_of_bf16(number_at<uint16_t>(tensor, i));
    default:
      return tensor.bytes[static_cast<size_t>(i)] == std::byte{255}
                 ? NAN
                 : std::ldexp(1.0f, static_cast<int>(tensor.bytes[static_cast<size_t>(i)]) - 127);
  }
}

std::string shape_text(const SafetensorsTensor& tensor) {
  return fmt::format("({}) {}", fmt::join(tensor.shape, ", "), tensor.dtype);
}

}  // namespace millrace
