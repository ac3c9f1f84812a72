#include "serve/kv_event_publisher.h"

#include <array>
#include <atomic>
#include <csignal>
#include <deque>
#include <iterator>
#include <msgpack.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>
#include <zmq_addon.hpp>

#include "base/error.h"
#include "base/log.h"

namespace millrace {
namespace {

constexpr size_t kReplayed = 10'000;
constexpr int kMaxUnsent =
    100'000;  // messages for a subscriber that reads slowly; further ones it does not get
constexpr std::chrono::milliseconds kLinger{1000};
constexpr std::string_view kEnd = "\xff\xff\xff\xff\xff\xff\xff\xff";
constexpr std::string_view kMedium = "GPU";  // vLLM's word for where nothing has to be loaded from

using Packer = msgpack::packer<msgpack::sbuffer>;

std::string bytes_of(uint64_t number) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
  return out;
}

// One event: its fields in vLLM's order, with their names in a map and without them in an array.
class EventWriter {
 public:
  EventWriter(Packer& out, KvEventPublisher::Format format) : out_(out), format_(format) {}

  void begin(std::string_view type, uint32_t n_fields) {
    if (format_ == KvEventPublisher::Format::maps) {
      out_.pack_map(n_fields + 1);
      out_.pack("type");
    } else {
      out_.pack_array(n_fields + 1);
    }
    out_.pack(type);
  }
  template <class Value>
  void field(const char* name, const Value& value) {
    if (format_ == KvEventPublisher::Format::maps) out_.pack(name);
    out_.pack(value);
  }

 private:
  Packer& out_;
  KvEventPublisher::Format format_;
};

void write(EventWriter out, const KvEvent& event, int64_t page_size) {
  constexpr msgpack::type::nil_t kNothing;
  switch (event.kind) {
    case KvEvent::Kind::stored:
      out.begin("BlockStored", 7);
      out.field("block_hashes", event.hashes);
      if (event.parent) {
        out.field("parent_block_hash", *event.parent);
      } else {
        out.field("parent_block_hash", kNothing);
      }
      out.field("token_ids", event.tokens);
      out.field("block_size", page_size);
      out.field("lora_id", kNothing);
      out.field("medium", kMedium);
      out.field("lora_name", kNothing);
      return;
    case KvEvent::Kind::removed:
      out.begin("BlockRemoved", 2);
      out.field("block_hashes", event.hashes);
      out.field("medium", kMedium);
      return;
    case KvEvent::Kind::cleared:
      out.begin("AllBlocksCleared", 0);
      return;
  }
}

template <class... Frames>
void send(zmq::socket_t& socket, const Frames&... frames) {
  zmq::send_multipart(socket, std::array{zmq::buffer(std::string_view(frames))...});
}

// As vLLM decides it.
bool is_ours(const std::string& endpoint) {
  return endpoint.find('*') != std::string::npos || endpoint.find("::") != std::string::npos ||
         endpoint.starts_with("ipc://");
}

}  // namespace

class KvEventPublisher::Loop {
 public:
  Loop(KvEventQueue& queue, Options options);
  ~Loop();

 private:
  zmq::socket_t open(zmq::socket_type type, const char* option, const std::string& endpoint);
  void run();
  void publish(const KvEventBatch& batch);
  void replay();

  KvEventQueue& queue_;
  const Options options_;
  zmq::context_t context_;
  zmq::socket_t publisher_;
  std::optional<zmq::socket_t> replayer_;
  std::deque<std::pair<std::string, std::string>> last_;  // number and batch, as they were sent
  std::atomic<bool> is_ending_{false};
  std::thread thread_;  // last: it uses all of the above
};

KvEventPublisher::Loop::Loop(KvEventQueue& queue, Options options)
    : queue_(queue),
      options_(std::move(options)),
      publisher_(open(zmq::socket_type::pub, "--kv-events", options_.endpoint)) {
  if (!options_.replay_endpoint.empty())
    replayer_ = open(zmq::socket_type::router, "--kv-events-replay", options_.replay_endpoint);
  queue_.cleared();
  queue_.flush();
  thread_ = std::thread([this] { run(); });
}

KvEventPublisher::Loop::~Loop() {
  queue_.cleared();
  queue_.flush();
  is_ending_ = true;
  queue_.wake();
  thread_.join();
}

zmq::socket_t KvEventPublisher::Loop::open(zmq::socket_type type, const char* option,
                                           const std::string& endpoint) {
  if (!endpoint.starts_with("tcp://") && !endpoint.starts_with("ipc://"))
    fail(ErrorKind::usage, "{} should be tcp://*:PORT, tcp://HOST:PORT or ipc://PATH, found {}", option,
         printable(endpoint));
  try {
    zmq::socket_t socket(context_, type);
    socket.set(zmq::sockopt::sndhwm, kMaxUnsent);
    socket.set(zmq::sockopt::linger, static_cast<int>(kLinger.count()));
    socket.set(zmq::sockopt::ipv6, endpoint.find('[') != std::string::npos);
    if (type == zmq::socket_type::pub && !is_ours(endpoint)) {
      socket.connect(endpoint);
    } else {
      socket.bind(endpoint);
    }
    log_info("{}: {}, where tokens of prompts can be read", option, socket.get(zmq::sockopt::last_endpoint));
    return socket;
  } catch (const zmq::error_t& error) {
    fail(ErrorKind::usage, "{} {} cannot be opened: {}", option, printable(endpoint), error.what());
  }
}

void KvEventPublisher::Loop::run() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // they would end the calls of ZeroMQ
  std::vector<zmq::pollitem_t> items{{nullptr, queue_.wake_fd(), ZMQ_POLLIN, 0}};
  if (replayer_) items.push_back({replayer_->handle(), 0, ZMQ_POLLIN, 0});
  while (true) {
    zmq::poll(items, std::chrono::milliseconds(-1));
    const bool is_ending = is_ending_;
    for (const KvEventBatch& batch : queue_.take()) publish(batch);
    if (is_ending) return;
    if (replayer_) replay();
  }
}

void KvEventPublisher::Loop::publish(const KvEventBatch& batch) {
  msgpack::sbuffer bytes;
  Packer out(bytes);
  out.pack_array(3);
  out.pack(batch.unix_s);
  out.pack_array(static_cast<uint32_t>(batch.events.size()));
  for (const KvEvent& event : batch.events) write({out, options_.format}, event, options_.page_size);
  out.pack(0);  // of the data-parallel ranks, the one that there is
  auto& [number, content] =
      last_.emplace_back(bytes_of(batch.number), std::string(bytes.data(), bytes.size()));
  if (last_.size() > kReplayed) last_.pop_front();
  send(publisher_, options_.topic, number, content);
}

// One question a turn. Of big-endian numbers of one length the text has the order of the number.
void KvEventPublisher::Loop::replay() {
  std::vector<zmq::message_t> asked;
  if (!zmq::recv_multipart(*replayer_, std::back_inserter(asked), zmq::recv_flags::dontwait)) return;
  if (asked.size() != 3 || !asked[1].empty() || asked[2].size() != 8)
    return log_info("a question for KV events is not understood: it should be a number of 8 bytes");
  const std::string_view client = asked[0].to_string_view(), first = asked[2].to_string_view();
  for (const auto& [number, content] : last_) {
    if (number >= first) send(*replayer_, client, "", number, content);
  }
  send(*replayer_, client, "", kEnd, "");
}

KvEventPublisher::KvEventPublisher(KvEventQueue& queue, Options options)
    : loop_(std::make_unique<Loop>(queue, std::move(options))) {}
KvEventPublisher::~KvEventPublisher() = default;

}  // namespace millrace
