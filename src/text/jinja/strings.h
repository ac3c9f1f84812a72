// Python's str methods on UTF-8 text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja {

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalized(std::string_view text);
std::string titled(std::string_view text);

enum class Ends { left, right, both };
// Without the characters of `chars`, or without white space, at those ends.
std::string_view stripped(std::string_view text, const std::optional<std::string>& chars, Ends ends);

// The pieces between separators, at most n_splits + 1 (below 0: all). Without a separator: words between
// white space.
std::vector<std::string_view> split(std::string_view text, const std::optional<std::string>& separator,
                                    int64_t n_splits);
std::vector<std::string_view> split_from_right(std::string_view text,
                                               const std::optional<std::string>& separator, int64_t n_splits);
std::vector<std::string_view> split_lines(std::string_view text, bool keeps_ends);

// The first `count` (below 0: all) occurrences replaced.
std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count);

// Whether the text is not empty and all its characters have the property.
bool is_all_digits(std::string_view text);
bool is_all_alpha(std::string_view text, bool or_digits);
bool is_all_space(std::string_view text);
bool is_upper_text(std::string_view text);
bool is_lower_text(std::string_view text);

std::string html_escaped(std::string_view text);

}  // namespace millrace::jinja
