// How sockets become transports. The one header with Asio in it besides the implementation files.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>

#include "serve/net/transport.h"

namespace millrace {

using Socket = boost::asio::generic::stream_protocol::socket;

std::unique_ptr<Transport> make_plain_transport(Socket socket);

}  // namespace millrace
