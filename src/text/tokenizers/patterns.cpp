#include "text/tokenizers/patterns.h"

#include <string>

#include "text/tokenizers/regex_scanner.h"
#include "text/tokenizers/scanners.h"

namespace millrace {
namespace patterns {

const char* const kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Published with the characters \r and \n themselves.
const char* const kDeepseekMain =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
const char* const kDeepseekCjk = "[一-龥぀-ゟ゠-ヿ]+";
const char* const kKimi =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace patterns

namespace {

Cl100kScanner cl100k(size_t max_digits) {
  Cl100kScanner scanner;
  scanner.max_digits = max_digits;
  return scanner;
}

Cl100kScanner without_contractions() {
  Cl100kScanner scanner = cl100k(1);
  scanner.has_contractions = false;
  return scanner;
}

Cl100kScanner with_marks() {
  Cl100kScanner scanner = cl100k(1);
  scanner.has_marks = true;
  return scanner;
}

O200kScanner tekken() {
  O200kScanner scanner;
  scanner.max_digits = 1;
  scanner.has_contractions = false;
  return scanner;
}

O200kScanner kimi() {
  O200kScanner scanner;
  scanner.has_slashes = false;
  scanner.has_han = true;
  return scanner;
}

RunScanner run(CharSet set, size_t min = 1, size_t max = SIZE_MAX) {
  RunScanner scanner;
  scanner.set = set;
  scanner.min = min;
  scanner.max = max;
  return scanner;
}

RunScanner run_after_space(CharSet set) {
  RunScanner scanner = run(set);
  scanner.lead = RunScanner::Lead::white_space;
  return scanner;
}

RunScanner ascii(std::string_view chars, size_t min, size_t max) {
  RunScanner scanner = run(0, min, max);
  scanner.ascii = chars;
  return scanner;
}

RunScanner code_points(std::vector<RunScanner::Range> ranges) {
  RunScanner scanner = run(0);
  scanner.ranges = std::move(ranges);
  return scanner;
}

using Make = std::unique_ptr<SplitStep> (*)(PatternOptions);
struct Known {
  std::string_view pattern;
  Make make;
};

const Known kKnown[] = {
    {patterns::kGpt2, [](PatternOptions o) { return make_split(Gpt2Scanner(), o); }},
    {patterns::kCl100k, [](PatternOptions o) { return make_split(cl100k(3), o); }},
    {patterns::kQwen2, [](PatternOptions o) { return make_split(cl100k(1), o); }},
    {patterns::kQwen35, [](PatternOptions o) { return make_split(with_marks(), o); }},
    {patterns::kO200k, [](PatternOptions o) { return make_split(O200kScanner(), o); }},
    {patterns::kTekken, [](PatternOptions o) { return make_split(tekken(), o); }},
    {patterns::kDeepseekMain, [](PatternOptions o) { return make_split(DeepseekScanner(), o); }},
    {patterns::kDeepseekCjk,
     [](PatternOptions o) {
       return make_split(code_points({{0x4e00, 0x9fa5}, {0x3040, 0x30ff}}), o);
     }},
    {patterns::kKimi, [](PatternOptions o) { return make_split(kimi(), o); }},
    // Qwen2 without contractions, and Llama 3 with numbers of any length.
    {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     [](PatternOptions o) { return make_split(without_contractions(), o); }},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     [](PatternOptions o) { return make_split(cl100k(SIZE_MAX), o); }},
    {R"(\p{N})", [](PatternOptions o) { return make_split(run(kNumber, 1, 1), o); }},
    {R"(\p{N}{1,3})", [](PatternOptions o) { return make_split(run(kNumber, 1, 3), o); }},
    {R"(\p{N}+)", [](PatternOptions o) { return make_split(run(kNumber), o); }},
    {R"([0-9][0-9][0-9])", [](PatternOptions o) { return make_split(ascii("0123456789", 3, 3), o); }},
    {"[\r\n]", [](PatternOptions o) { return make_split(ascii("\r\n", 1, 1), o); }},
    {R"([\r\n])", [](PatternOptions o) { return make_split(ascii("\r\n", 1, 1), o); }},
    {R"(\s?\p{L}+)", [](PatternOptions o) { return make_split(run_after_space(kLetter), o); }},
    {R"(\s?\p{P}+)", [](PatternOptions o) { return make_split(run_after_space(kPunctuation), o); }},
    {R"(\s+$)", [](PatternOptions o) { return make_split(LineEndScanner(), o); }},
    {"[一-龥ࠀ-一가-퟿]+",
     [](PatternOptions o) {
       return make_split(code_points({{0x800, 0x9fa5}, {0xac00, 0xd7ff}}), o);
     }},
};

// Finds a string; an empty one is nowhere.
struct TextScanner {
  std::string text;
  Match next(std::string_view in, size_t from) const {
    const size_t at = text.empty() ? std::string_view::npos : in.find(text, from);
    return at == std::string_view::npos ? Match{in.size(), in.size()} : Match{at, at + text.size()};
  }
};

}  // namespace

std::unique_ptr<SplitStep> make_pattern_split(std::string_view pattern, PatternOptions options) {
  for (const Known& known : kKnown) {
    if (known.pattern == pattern) return known.make(options);
  }
  return make_split(RegexScanner(pattern), options);
}

std::unique_ptr<SplitStep> make_text_split(std::string_view text, PatternOptions options) {
  return make_split(TextScanner{std::string(text)}, options);
}

}  // namespace millrace
