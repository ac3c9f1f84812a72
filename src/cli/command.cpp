#include "cli/command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>

#include "base/descriptor.h"
#include "base/error.h"

namespace millrace {
namespace {

[[noreturn]] void fail_here(const char* what) {
  fail(ErrorKind::runtime, "a command cannot be run: {}: {}", what, std::strerror(errno));
}

// A file and not a pipe: a command need not read what it is given.
std::unique_ptr<FILE, int (*)(FILE*)> file_of(std::string_view input) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::tmpfile(), std::fclose);
  if (file == nullptr) fail_here("no temporary file");
  const bool is_written =  // an empty view may be of nothing
      input.empty() || std::fwrite(input.data(), 1, input.size(), file.get()) == input.size();
  if (!is_written || std::fflush(file.get()) != 0 || ::lseek(::fileno(file.get()), 0, SEEK_SET) != 0)
    fail_here("its input cannot be written");
  return file;
}

pid_t spawn(const std::string& command, int input, int output) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;  // we ignore it; pipes in a shell end by it
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  std::string shell = "sh", flag = "-c", text = command;
  std::array<char*, 4> argv{shell.data(), flag.data(), text.data(), nullptr};
  pid_t pid = 0;
  errno = ::posix_spawn(&pid, "/bin/sh", &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return errno == 0 ? pid : -1;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

CommandResult run_command(const std::string& command, std::string_view input, size_t max_output_bytes) {
  const auto file = file_of(input);
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) fail_here("no pipe");
  const pid_t pid = spawn(command, ::fileno(file.get()), pipe[1]);
  ::close(pipe[1]);
  CommandResult result;
  result.output.resize(max_output_bytes + 1);  // one more, to see whether there is more
  const ssize_t n = pid < 0 ? 0 : read_all(pipe[0], std::as_writable_bytes(std::span(result.output)));
  ::close(pipe[0]);
  if (pid < 0) fail_here("/bin/sh");
  result.status = wait_for(pid);
  if (n < 0) fail_here("its output cannot be read");
  result.is_cut = static_cast<size_t>(n) > max_output_bytes;
  result.output.resize(std::min(static_cast<size_t>(n), max_output_bytes));
  return result;
}

}  // namespace millrace
