// What a verb is: options bound to members, and what to do. Each verb is one file and a line in verbs.cpp.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/args.h"

namespace millrace {

class Command {
 public:
  virtual ~Command() = default;
  // Names every argument with the member it fills.
  virtual void declare(Args& args) = 0;
  // Does it. Throws Error; what it prints goes to standard output, everything else to standard error.
  virtual void run() = 0;
};

struct Verb {
  std::string_view name;
  std::string_view summary;
  std::unique_ptr<Command> (*make)();
};

std::span<const Verb> all_verbs();

}  // namespace millrace
