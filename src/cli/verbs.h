// The verbs of the program, one file each, listed once in verbs.cpp.
#pragma once

namespace millrace {

// Runs `millrace VERB ...` and returns the exit status: 0 done, 1 runtime failure, 2 usage, 3 bad model, 4
// does not fit.
int run_program(int argc, char** argv);

}  // namespace millrace
