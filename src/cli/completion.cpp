// completion: scripts for shells, made from the table of verbs and what each declares.
#include "base/error.h"
#include "cli/verb.h"

namespace millrace {
namespace {

// Of a verb, every option name, separated by spaces.
std::string option_names(const Verb& verb) {
  const std::unique_ptr<Command> command = verb.make();
  Args args(std::string(verb.name), std::string(verb.summary));
  command->declare(args);
  std::string out;
  for (const Args::Entry& entry : args.entries()) {
    if (entry.is_positional) continue;
    for (const std::string& name : entry.names) out += (out.empty() ? "" : " ") + name;
  }
  return out;
}

std::string verb_names() {
  std::string out;
  for (const Verb& verb : all_verbs()) out += fmt::format("{}{}", out.empty() ? "" : " ", verb.name);
  return out;
}

void print_bash() {
  fmt::print(
      "_millrace() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}}\n  local options=\n  case ${{COMP_WORDS[1]}} "
      "in\n");
  for (const Verb& verb : all_verbs())
    fmt::print("    {}) options=\"{}\" ;;\n", verb.name, option_names(verb));
  fmt::print(
      "  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n"
      "  elif [[ $word == -* ]]; then\n    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n  else\n"
      "    COMPREPLY=($(compgen -f -- \"$word\"))\n  fi\n}}\ncomplete -o filenames -F _millrace millrace\n",
      verb_names());
}

void print_zsh() {
  fmt::print(
      "#compdef millrace\n_millrace() {{\n  if (( CURRENT == 2 )); then\n    compadd {}\n    return\n  fi\n",
      verb_names());
  fmt::print("  if [[ $words[CURRENT] != -* ]]; then\n    _files\n    return\n  fi\n  case $words[2] in\n");
  for (const Verb& verb : all_verbs())
    fmt::print("    {}) compadd -- {} ;;\n", verb.name, option_names(verb));
  fmt::print("  esac\n}}\n_millrace \"$@\"\n");
}

void print_fish() {
  for (const Verb& verb : all_verbs()) {
    fmt::print("complete -c millrace -n __fish_use_subcommand -f -a {} -d '{}'\n", verb.name, verb.summary);
    const std::unique_ptr<Command> command = verb.make();
    Args args(std::string(verb.name), std::string(verb.summary));
    command->declare(args);
    for (const Args::Entry& entry : args.entries()) {
      if (entry.is_positional) continue;
      std::string flags;
      for (const std::string& name : entry.names)
        flags += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      std::string help = entry.help;
      std::erase(help, '\'');
      fmt::print("complete -c millrace -n '__fish_seen_subcommand_from {}'{}{} -d '{}'\n", verb.name, flags,
                 entry.takes_value ? " -r" : "", help);
    }
  }
}

class Completion final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("SHELL", "bash, zsh or fish", shell_, Args::Presence::needed);
  }

  void run() override {
    if (shell_ == "bash") return print_bash();
    if (shell_ == "zsh") return print_zsh();
    if (shell_ == "fish") return print_fish();
    fail(ErrorKind::usage, "completion: {} is no shell known here; known: bash, zsh, fish",
         printable(shell_));
  }

 private:
  std::string shell_;
};

}  // namespace

std::unique_ptr<Command> make_completion() { return std::make_unique<Completion>(); }

}  // namespace millrace
