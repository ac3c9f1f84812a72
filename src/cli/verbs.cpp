#include "cli/verbs.h"

namespace millrace {

int run_program(int, char**) { return 2; }

}  // namespace millrace
