// A connected stream of bytes: TCP or a unix socket, plain or in TLS. One read and one write at a time. All
// on the I/O thread; a callback is called later, never from inside of the call that it was given to.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace millrace {

class Transport {
 public:
  virtual ~Transport() = default;

  using Done = std::function<void(bool is_ok, size_t n_bytes)>;
  // Whatever is needed before bytes flow.
  virtual void open(Done done) = 0;
  // 1 to `size` bytes into `data`, which must stay; not ok at the end of the stream.
  virtual void read(char* data, size_t size, Done done) = 0;
  // All of `bytes`, which must stay.
  virtual void write(const std::string& bytes, Done done) = 0;
  // No more will be written; the other side may still be read.
  virtual void end_writing(Done done) = 0;
  // Pending calls fail.
  virtual void close() = 0;
};

}  // namespace millrace
