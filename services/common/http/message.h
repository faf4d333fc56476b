// HTTP requests and responses as plain data.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rollcall {

struct HttpRequest {
  std::string method;  // upper case
  std::string path;    // begins with '/', without the query; escapes are left as they are
  std::string query;   // behind the '?', may be empty
  // Names in lower case, in the order of the request.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // What a route's {name} stands for, in order; see HttpRoutes.
  std::vector<std::string> path_values;

  // The first value of a header, by its name in lower case; empty when absent.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  // Besides Content-Type, Content-Length and Connection, which the server writes. A header whose
  // name or value could not stand in a response (line breaks) is left out.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// "Not Found" of 404; "Unknown" of codes that HTTP does not name.
std::string_view HttpReason(int status);

// Status line and headers up to and with the empty line. `body_headers` are lines that end with
// "\r\n": what says how long the body is.
std::string HttpHead(const HttpResponse& response, std::string_view body_headers,
                     std::string_view connection);

// One piece of a chunked body; nothing for empty data, which would end the body.
std::string HttpChunk(std::string_view data);
inline constexpr std::string_view kHttpLastChunk = "0\r\n\r\n";

// One server-sent event that carries `data`, which has no line breaks.
std::string ServerSentEvent(std::string_view data);

}  // namespace rollcall
