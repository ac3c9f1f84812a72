// Python's str on UTF-8: characters, their classes and their case. Indices and counts are in characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja {

bool is_space(uint32_t c);  // str.isspace, and \s of regular expressions
bool is_decimal(uint32_t c);
bool is_digit(uint32_t c);
bool is_numeric(uint32_t c);
bool is_alpha(uint32_t c);
bool is_alnum(uint32_t c);
bool is_upper(uint32_t c);
bool is_lower(uint32_t c);
bool is_title(uint32_t c);
bool is_printable(uint32_t c);

size_t count_leading_space(std::string_view text);   // bytes
size_t count_trailing_space(std::string_view text);  // bytes
// The bytes of the identifier that `text` begins with.
size_t count_name_bytes(std::string_view text);

std::vector<uint32_t> code_points(std::string_view text);
// The byte at which character `index` begins, or the size of the text.
size_t byte_of_char(std::string_view text, size_t index);
// The character that holds byte `at` of the text.
size_t char_of_byte(std::string_view text, size_t at);
size_t count_chars(std::string_view text);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);  // str.title
std::string to_capitalized(std::string_view text);
std::string to_swapped_case(std::string_view text);

// Where `needle` begins in `text` at or after byte `from`, else npos. Linear, whatever the texts.
size_t find_text(std::string_view text, std::string_view needle, size_t from = 0);
size_t rfind_text(std::string_view text, std::string_view needle);

// Without the characters of `chars` (nullptr: whitespace) at the ends that are asked for.
struct StripEnds {
  bool left = true;
  bool right = true;
};
std::string_view strip(std::string_view text, const std::string_view* chars, StripEnds ends);

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

std::string html_escape(std::string_view text);

}  // namespace millrace::jinja
