// The files of the page, as they lie beside this one.
#pragma once

#include <string_view>

namespace millrace {

extern const std::string_view kPageHtml, kPageCss, kPageJs, kMarkdownJs;

}  // namespace millrace
