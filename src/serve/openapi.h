// The description of all routes, as OpenAPI 3.1.
#pragma once

#include "serve/dialect.h"

namespace millrace {

// Of what this server answers with this model: every route reads its examples, and what it asks of them is
// what a request may hold.
Json openapi_document(const Incoming& incoming);

}  // namespace millrace
