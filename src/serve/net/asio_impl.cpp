// The bodies of Asio's and Beast's functions, compiled once (BOOST_ASIO_SEPARATE_COMPILATION).

// Beast's parser asserts that at least two bytes follow a last chunk at once (parse_chunk_header, n >= 5). A
// client may send one, which the code behind the assertion handles.
#define BOOST_DISABLE_ASSERTS
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
