#include "cli/verbs.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <new>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "base/version.h"
#include "cli/verb.h"

namespace millrace {

// One line a verb.
std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_completion();
std::unique_ptr<Command> make_convert();
std::unique_ptr<Command> make_detokenize();
std::unique_ptr<Command> make_doctor();
std::unique_ptr<Command> make_embed();
std::unique_ptr<Command> make_imatrix();
std::unique_ptr<Command> make_inspect();
std::unique_ptr<Command> make_logits();
std::unique_ptr<Command> make_perplexity();
std::unique_ptr<Command> make_quantize();
std::unique_ptr<Command> make_render();
std::unique_ptr<Command> make_run();
std::unique_ptr<Command> make_serve();
std::unique_ptr<Command> make_tokenize();

std::span<const Verb> all_verbs() {
  static constexpr Verb kVerbs[] = {
      {"run", "Chat with a model in the terminal, or get one answer", make_run},
      {"serve", "Answer over HTTP, as OpenAI does", make_serve},
      {"embed", "Turn texts into embeddings, or into the scores of a reranker", make_embed},
      {"inspect", "Show what is in a model file, or check all of it", make_inspect},
      {"tokenize", "Turn text into token ids", make_tokenize},
      {"detokenize", "Turn token ids into text", make_detokenize},
      {"render", "Show the prompt that a chat becomes", make_render},
      {"logits", "Write the logits of every position to a .npy file", make_logits},
      {"perplexity", "Measure how well a model predicts a text", make_perplexity},
      {"bench", "Measure the speed of a model beside the machine's limit", make_bench},
      {"convert", "Write a Hugging Face folder as a GGUF file", make_convert},
      {"quantize", "Write a model as a GGUF file of smaller formats", make_quantize},
      {"imatrix", "Measure which columns of the weights count, for quantize", make_imatrix},
      {"doctor", "Show what this machine is and what it lacks", make_doctor},
      {"completion", "Print a completion script for bash, zsh or fish", make_completion},
  };
  return kVerbs;
}

namespace {

void print_help() {
  fmt::print("Runs open-weight language models.\n\nUsage: millrace VERB [ARGUMENTS]\n\nVerbs:\n");
  for (const Verb& verb : all_verbs()) fmt::print("  {:<12} {}\n", verb.name, verb.summary);
  fmt::print(
      "\nmillrace VERB --help lists the arguments of a verb; millrace --version prints the version.\n");
}

const Verb& find_verb(std::string_view name) {
  const auto verbs = all_verbs();
  const auto verb = std::ranges::find(verbs, name, &Verb::name);
  if (verb != verbs.end()) return *verb;
  std::vector<std::string_view> known;
  for (const Verb& each : verbs) known.push_back(each.name);
  fail(ErrorKind::usage, "unknown verb {}; did you mean {}?", printable(name), nearest_name(name, known));
}

void run_verb(const Verb& verb, int argc, char** argv) {
  const std::unique_ptr<Command> command = verb.make();
  Args args(std::string(verb.name), std::string(verb.summary));
  command->declare(args);
  if (args.parse(argc, argv)) command->run();
}

int run(int argc, char** argv) {
  const std::string_view name = argc < 2 ? "" : argv[1];
  const bool wants_help = name == "--help" || name == "-h" || name == "help";
  if (name.empty() || wants_help) {
    print_help();
  } else if (name == "--version") {
    fmt::print("millrace {}\n", version());
  } else {
    run_verb(find_verb(name), argc - 2, argv + 2);
  }
  if (std::fflush(stdout) != 0)
    fail(ErrorKind::runtime, "cannot write to standard output: {}", std::strerror(errno));
  return name.empty() ? static_cast<int>(ErrorKind::usage) : 0;
}

// A mapped model file was cut by somebody else: reading on would crash. Only async-signal-safe calls.
void end_on_bus_error(int) {
  constexpr char kSentence[] =
      "millrace: the model file was cut short or became unreadable while it was in use\n";
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, kSentence, sizeof kSentence - 1);
  ::_exit(static_cast<int>(ErrorKind::bad_model));
}

int report(int status, const char* sentence) {
  std::fflush(stdout);
  fmt::print(stderr, "millrace: {}\n", sentence);
  return status;
}

}  // namespace

int run_program(int argc, char** argv) {
  std::signal(SIGBUS, end_on_bus_error);
  std::signal(SIGPIPE, SIG_IGN);  // a closed reader is an error of write
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    return report(static_cast<int>(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return report(static_cast<int>(ErrorKind::does_not_fit), "out of memory");
  } catch (const std::exception& error) {
    return report(static_cast<int>(ErrorKind::runtime), error.what());
  }
}

}  // namespace millrace
