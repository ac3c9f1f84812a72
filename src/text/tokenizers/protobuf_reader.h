// One message of the protocol buffers wire format, field by field. Nothing is copied; what lies outside of
// the bytes is never read.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace millrace {

class ProtobufReader {
 public:
  // `what` stands for the message in errors. Both must outlive the reader.
  ProtobufReader(std::string_view bytes, std::string_view what) : rest_(bytes), what_(what) {}

  // Moves to the next field; false at the end. Throws Error(bad_model) for bytes that are no field.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    wire_type_ = static_cast<int>(tag & 7);
    switch (wire_type_) {
      case 0:
        integer_ = varint();
        break;
      case 1:
        bytes_ = take(8);
        break;
      case 2:
        bytes_ = take(varint());
        break;
      case 5:
        bytes_ = take(4);
        break;
      default:
        refuse();  // groups, which nobody writes any more
    }
    return true;
  }

  uint64_t field() const { return field_; }
  // The value of the field, which must be of that type.
  uint64_t integer() const {
    if (wire_type_ != 0) refuse();
    return integer_;
  }
  std::string_view bytes() const {
    if (wire_type_ != 2) refuse();
    return bytes_;
  }
  float real() const {
    if (wire_type_ != 5) refuse();
    float value;
    std::memcpy(&value, bytes_.data(), sizeof value);
    return value;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    refuse();
  }

  std::string_view take(uint64_t n) {
    if (n > rest_.size()) refuse();
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }

  [[noreturn]] void refuse() const {
    fail(ErrorKind::bad_model, "{}: cut off or corrupt, expected a protocol buffer", printable(what_));
  }

  std::string_view rest_, what_, bytes_;
  uint64_t field_ = 0, integer_ = 0;
  int wire_type_ = 0;
};

}  // namespace millrace
