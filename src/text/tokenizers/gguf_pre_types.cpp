#include "text/tokenizers/gguf_pre_types.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizers/patterns.h"

namespace millrace {
namespace {

using namespace patterns;

const char* const kDigit = R"(\p{N})";
const char* const kThreeDigits = R"(\p{N}{1,3})";
const char* const kDigits = R"(\p{N}+)";
const char* const kThreeAscii = "[0-9][0-9][0-9]";
const char* const kNewline = "[\r\n]";
const char* const kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
const char* const kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
const char* const kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kAnyDigits =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kNoContractions =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// The letters with case of Unicode 11, as DeepSeek's first tokenizers list them.
const char* const kDeepseekLlmWord =
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}\\x{1F1D}"
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}"
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}"
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}"
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"
    "\\x{1E900}-\\x{1E943}]+";
const char* const kDeepseekLlmSign = "\\s?[!-/:-~！-／：-～‘-‟　-。]+";
const char* const kDeepseekWide = "[一-龥ࠀ-一가-퟿]+";

constexpr bool kIgnoresMerges = true, kAddsBos = true, kNfc = true;

PreType deepseek_v3(std::string_view name) { return {name, {kThreeDigits, kDeepseekCjk, kDeepseekMain}}; }
PreType gpt2(std::string_view name) { return {name, {kGpt2}}; }
PreType gpt2_digits(std::string_view name) { return {name, {kDigit, kGpt2}}; }
PreType llama3(std::string_view name) { return {name, {kCl100k}, kIgnoresMerges, kAddsBos}; }

const PreType kPreTypes[] = {
    llama3("llama3"),
    llama3("llama-v3"),
    llama3("llama-bpe"),
    llama3("falcon3"),
    llama3("falcon-h1"),
    llama3("pixtral"),
    llama3("midm-2.0"),
    llama3("lfm2"),
    llama3("smollm3"),
    {"dbrx", {kCl100k}},
    {"smaug-bpe", {kCl100k}},
    {"glm4", {kCl100k}},
    {"chatglm-bpe", {kCl100k}},
    {"minicpm5", {kThreeDigits, kAnyDigits}, kIgnoresMerges},
    {"qwen2", {kQwen2}, false, false, kNfc},
    {"deepseek-r1-qwen", {kQwen2}, false, false, kNfc},
    {"qwen35", {kQwen35}, false, false, kNfc},
    {"megrez", {kQwen2}},
    {"kormo", {kQwen2}},
    {"stablelm2", {kQwen2}},
    {"hunyuan", {kQwen2}},
    {"solar-open", {kQwen2}},
    {"grok-2", {kQwen2}},
    {"ufakzeka", {kNoContractions}},
    {"seed-coder", {kSeedCoder}},
    {"bailingmoe", {kBailing}},
    {"bailingmoe2", {kBailing}},
    {"llada-moe", {kBailing}},
    {"gpt-4o", {kO200k}},
    {"llama4", {kO200k}},
    {"kanana2", {kO200k}},
    {"minimax-m2", {kO200k}},
    {"tekken", {kTekken}, kIgnoresMerges, kAddsBos},
    {"kimi-k2", {kKimi}},
    deepseek_v3("deepseek-v3"),
    deepseek_v3("hunyuan-dense"),
    deepseek_v3("joyai-llm"),
    {"deepseek-llm", {kNewline, kDeepseekLlmWord, kDeepseekLlmSign, R"(\s+$)", kDeepseekWide, kDigits}},
    {"deepseek-coder", {kNewline, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekWide, kDigit}},
    gpt2("gpt-2"),
    gpt2("phi-2"),
    gpt2("mpt"),
    gpt2("olmo"),
    gpt2("jais"),
    gpt2("trillion"),
    gpt2("granite-docling"),
    gpt2("exaone4"),
    gpt2("gigachat"),
    gpt2("a.x-4.0"),
    gpt2("mellum"),
    {"modern-bert", {kGpt2}, false, false, kNfc},
    gpt2("jina-es"),
    gpt2("jina-de"),
    gpt2("jina-v2-es"),
    gpt2("jina-v2-de"),
    gpt2_digits("starcoder"),
    gpt2_digits("refact"),
    gpt2_digits("command-r"),
    gpt2_digits("smollm"),
    gpt2_digits("codeshell"),
    gpt2_digits("exaone"),
    gpt2_digits("minerva-7b"),
    gpt2_digits("mellum2"),
    {"falcon", {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, kThreeAscii}},
    {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, kDigits, kThreeAscii}},
    {"bloom", {kBloom}},
    {"gpt3-finnish", {kBloom}},
    {"poro-chat", {kBloom}},
    {"viking", {kBloom, kDigit}},
};

}  // namespace

const PreType& find_pre_type(std::string_view name) {
  for (const PreType& type : kPreTypes) {
    if (type.name == name) return type;
  }
  fail(ErrorKind::bad_model, "tokenizer.ggml.pre is \"{}\", which is not a known pre-tokenizer",
       printable(name));
}

const PreType* match_pre_type(std::span<const std::string> patterns, bool ignores_merges, bool is_nfc) {
  for (const PreType& type : kPreTypes) {
    const auto n_patterns = std::ranges::find(type.patterns, nullptr) - type.patterns.begin();
    if (n_patterns == std::ssize(patterns) &&
        std::ranges::equal(patterns, std::span(type.patterns).first(patterns.size())) &&
        type.ignores_merges == ignores_merges && type.is_nfc == is_nfc) {
      return &type;
    }
  }
  return nullptr;
}

}  // namespace millrace
