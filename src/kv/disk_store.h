// Records in a folder, each a file that is named by its key:
//
//   DIR/lock                                  held while somebody deletes what is too much
//   DIR/IDENTITY/2b/2bf3...                   a record: header, content
//   DIR/IDENTITY/2b/2bf3....7101.part         one that is being written
//
// A record comes under its name when it is whole, so whoever is killed loses the one that it was writing, and
// any number of processes may share a folder. Its header has a checksum: what a disk lost or somebody changed
// is deleted and was never there. What was used least recently leaves first, whatever its identity. Content
// is what prompts became: folders and files are for their owner alone.
//
// Nothing here throws. What cannot be written is told in one line of the log, and tried again later.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "kv/page_key.h"

namespace millrace {

class DiskStore {
 public:
  // `identity`: all that the bits of a record depend on besides its key. At most `max_bytes` of records are
  // kept in `dir`, of this and of other identities.
  DiskStore(std::filesystem::path dir, std::string_view identity, int64_t max_bytes);

  // Any thread. A record that has() may be gone when it is read.
  bool has(const PageKey& key) const;
  // False where there is no sound record of just that many bytes; `content` is then undefined.
  bool read(const PageKey& key, std::span<std::byte> content) const;

  // One thread. False where it could not be written.
  bool write(const PageKey& key, std::span<const std::byte> content);

 private:
  std::filesystem::path path_of(const PageKey& key) const;
  // A sentence why not; empty when it was written.
  std::string try_write(const PageKey& key, std::span<const std::byte> content);
  void note_others() const;
  // Counts what is there, and deletes what is too much for `n_wanted` bytes more.
  void make_room(int64_t n_wanted);

  std::filesystem::path dir_, own_;
  Digest identity_;
  int64_t max_bytes_;
  int64_t n_bytes_ = 0;  // when they were counted last, and what was written since
  int64_t count_again_at_ = 0;
  bool has_failed_ = false;  // since the last record that was written
  std::chrono::steady_clock::time_point retry_at_{};
  mutable std::atomic<bool> has_told_of_damage_{false};
};

}  // namespace millrace
