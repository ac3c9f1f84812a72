#include "cli/verbs.h"

int main(int argc, char** argv) { return millrace::run_program(argc, argv); }
