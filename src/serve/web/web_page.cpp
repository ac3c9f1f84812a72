// The page for those who have only a browser. Its files are part of the program (cmake/embed.cmake).
#include "serve/web/web_page.h"

#include "serve/dialects/openai.h"
#include "serve/dialects/table.h"

namespace millrace {
namespace {

// Nothing of another place is loaded or asked, no page may frame this one.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

HttpResponse file_response(std::string_view content, std::string type) {
  return {.status = 200,
          .content_type = std::move(type),
          .body = std::string(content),
          .headers = {{"Content-Security-Policy", std::string(kPolicy)},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}}};
}

// Ollama's clients ask the same path whether anybody is there.
Parsed root(const Incoming& incoming) {
  const std::string* accepted = incoming.http.header("accept");
  if (accepted == nullptr || accepted->find("text/html") == std::string::npos)
    return HttpResponse{
        .status = 200, .content_type = "text/plain; charset=utf-8", .body = "Ollama is running"};
  return file_response(kPageHtml, "text/html; charset=utf-8");
}

Parsed style(const Incoming&) { return file_response(kPageCss, "text/css; charset=utf-8"); }
Parsed script(const Incoming&) { return file_response(kPageJs, "text/javascript; charset=utf-8"); }
Parsed markdown(const Incoming&) { return file_response(kMarkdownJs, "text/javascript; charset=utf-8"); }

std::string error_body(const ApiError& error, const std::string&) { return openai_error(error).dump(); }

constexpr ApiRoute kRoutes[] = {
    {"GET", "/", root, ApiRoute::Runs::here, ApiRoute::Key::none},
    {"GET", "/page.css", style, ApiRoute::Runs::here, ApiRoute::Key::none},
    {"GET", "/page.js", script, ApiRoute::Runs::here, ApiRoute::Key::none},
    {"GET", "/markdown.js", markdown, ApiRoute::Runs::here, ApiRoute::Key::none},
};

}  // namespace

Dialect web_page() { return {"the web page", kRoutes, error_body}; }

}  // namespace millrace
