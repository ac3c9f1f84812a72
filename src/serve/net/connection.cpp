#include "serve/net/connection.h"

#include <utility>

namespace millrace {
namespace {

constexpr size_t kMaxWaitingBytes = size_t{64} << 10;  // of requests behind the one that is answered
constexpr std::chrono::seconds kLinger{2};

}  // namespace

Connection::Connection(Owner& owner, std::unique_ptr<Transport> transport, std::string client,
                       const ConnectionLimits& limits)
    : owner_(owner),
      transport_(std::move(transport)),
      client_(std::move(client)),
      limits_(limits),
      reader_(limits.http) {}

void Connection::start() {
  set_deadline(limits_.head);
  transport_->open([self = shared_from_this()](bool is_ok, size_t) {
    if (!is_ok) return self->close();
    self->set_deadline(self->limits_.idle);
    self->read();
  });
}

void Connection::read() {
  if (is_reading_ || is_closed_ || is_ended_by_client_) return;
  if (!is_lingering_ && in_.size() >= kMaxWaitingBytes) return;
  is_reading_ = true;
  transport_->read(chunk_.data(), chunk_.size(), [self = shared_from_this()](bool is_ok, size_t n_bytes) {
    self->is_reading_ = false;
    self->on_read(is_ok, n_bytes);
  });
}

void Connection::on_read(bool is_ok, size_t n_bytes) {
  if (is_closed_) return;
  if (!is_ok) {
    // A client that ends its side is taken to have left: what computes for it stops.
    is_ended_by_client_ = true;
    return close();
  }
  if (!is_lingering_) in_.append(chunk_.data(), n_bytes);
  advance();
  read();
}

void Connection::advance() {
  while (!is_closed_ && !is_writing_ && !is_lingering_) {
    if (exchange_ == nullptr && !take_request()) return;
    pump();
    if (exchange_ != nullptr && !is_writing_) return;  // nothing to send yet
  }
}

// Reads on at the next request. True when one is there and begun.
bool Connection::take_request() {
  const bool had_begun = reader_.has_begun(), had_head = reader_.has_head();
  const bool is_whole = reader_.take(in_);
  if (reader_.fault()) {
    refuse(*reader_.fault());
    return false;
  }
  if (!is_whole) {
    if (!had_begun && reader_.has_begun()) set_deadline(limits_.head);
    if (!had_head && reader_.has_head()) set_deadline(limits_.body);
    if (reader_.wants_continue()) write("HTTP/1.1 100 Continue\r\n\r\n");
    read();
    return false;
  }
  begin_exchange();
  return true;
}

void Connection::begin_exchange() {
  HttpRequest request = reader_.request();
  request.client = client_;
  if (owner_.is_draining()) request.keeps_alive = false;
  request_ = request;
  request_.body.clear();
  deadline_ = Clock::time_point::max();
  last_write_ = Clock::now();
  exchange_ = owner_.application().start(std::move(request), owner_.waker_of(weak_from_this()));
}

void Connection::refuse(const HttpFault& fault) {
  request_ = {};
  request_.keeps_alive = false;
  HttpResponse response = owner_.application().refusal(fault);
  closes_after_write_ = true;
  write(http_head(request_, response, response.body.size()) + response.body);
}

// Sends what the exchange has.
void Connection::pump() {
  Exchange::Progress progress = exchange_->poll();
  std::string bytes = framed(progress);
  if (progress.is_done) finish_exchange();
  if (!bytes.empty()) write(std::move(bytes));
}

std::string Connection::framed(Exchange::Progress& progress) {
  std::string bytes;
  const bool is_head_only = request_.method == "HEAD";
  if (progress.head) {
    is_streaming_ = progress.is_streamed && !is_head_only;
    // Where nobody says how long the body is, its end is the connection's.
    if (progress.is_streamed && request_.is_http_1_0) request_.keeps_alive = false;
    const HttpResponse& head = *progress.head;
    bytes = http_head(request_, head, progress.is_streamed ? std::nullopt : std::optional(head.body.size()));
    if (!progress.is_streamed && !is_head_only) bytes += head.body;
  }
  if (!is_streaming_) return bytes;
  bytes += request_.is_http_1_0 ? progress.bytes : http_chunk(progress.bytes);
  if (progress.is_done && !request_.is_http_1_0) bytes += "0\r\n\r\n";
  return bytes;
}

void Connection::finish_exchange() {
  exchange_.reset();
  is_streaming_ = false;
  closes_after_write_ = !request_.keeps_alive;
  set_deadline(limits_.idle);
}

void Connection::write(std::string bytes) {
  is_writing_ = true;
  out_ = std::move(bytes);
  last_write_ = Clock::now();
  set_deadline(limits_.write);
  transport_->write(out_, [self = shared_from_this()](bool is_ok, size_t) { self->on_written(is_ok); });
}

void Connection::on_written(bool is_ok) {
  is_writing_ = false;
  if (is_closed_) return;
  if (!is_ok) return close();
  out_.clear();
  out_.shrink_to_fit();
  if (exchange_ != nullptr) {
    deadline_ = Clock::time_point::max();
  } else if (closes_after_write_) {
    return linger();
  } else {
    set_deadline(reader_.has_head() ? limits_.body : reader_.has_begun() ? limits_.head : limits_.idle);
  }
  advance();
}

void Connection::linger() {
  is_lingering_ = true;
  in_.clear();
  set_deadline(kLinger);
  transport_->end_writing([self = shared_from_this()](bool is_ok, size_t) {
    if (!is_ok) return self->close();
    self->read();
  });
}

void Connection::check_time(Clock::time_point now) {
  if (is_closed_) return;
  if (now >= deadline_) {
    const bool is_late_request = !is_writing_ && !is_lingering_ && reader_.has_begun();
    return is_late_request ? refuse({408, "the request took too long to arrive"}) : close();
  }
  if (exchange_ == nullptr) {
    if (owner_.is_draining() && !is_writing_ && !is_lingering_ && !reader_.has_begun()) close();
    return;
  }
  if (!is_streaming_ || is_writing_ || now - last_write_ < limits_.quiet) return;
  Exchange::Progress quiet{.head = std::nullopt, .bytes = exchange_->keep_alive()};
  if (std::string bytes = framed(quiet); !bytes.empty()) write(std::move(bytes));
}

void Connection::close() {
  if (is_closed_) return;
  is_closed_ = true;
  exchange_.reset();
  transport_->close();
}

}  // namespace millrace
