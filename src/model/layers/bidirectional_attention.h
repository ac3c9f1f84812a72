// Attention of an encoder: every row sees its whole sequence, nothing is kept for later steps.
#pragma once

#include "model/layers/attention.h"

namespace millrace {

// out = attention(x) in both directions; both (n_rows, hidden). With a window a row sees the positions at
// most window / 2 away.
void run_bidirectional_attention(const Pass& pass, const Attention& attention, const Tensor& x,
                                 const Tensor& out);

}  // namespace millrace
