# details, which knows the facts about a book of BookInfo.
#
#   ruby details.rb 9080 [0.0.0.0]
#
# A small HTTP server on the socket library, since WEBrick no longer comes with every Ruby; nothing of a mesh.

require "json"
require "socket"

NAME = "#{ENV["HOSTNAME"] || "details-v1"} (Ruby #{RUBY_VERSION})".freeze
LONGEST_LINE = 16 * 1024
MOST_FIELDS = 100
LARGEST_BODY = 64 * 1024
SILENCE = 60 # seconds after which a connection is closed
REASONS = { 200 => "OK", 400 => "Bad Request", 404 => "Not Found", 405 => "Method Not Allowed" }.freeze

Request = Struct.new(:method, :target, :version, :headers) do
  def path
    target.split("?", 2).first
  end

  # Whether the connection goes on after the answer.
  def keep_alive?
    version == "HTTP/1.1" && headers["connection"].to_s.downcase != "close"
  end
end

class BadRequest < StandardError; end

# Reads the next request of a connection with its body, which nobody here wants; nil where there is none.
def read_request(socket)
  return nil unless socket.wait_readable(SILENCE)

  line = socket.gets("\n", LONGEST_LINE) or return nil
  method, target, version, rest = line.split(" ")
  raise BadRequest unless line.end_with?("\n") && target&.start_with?("/") && version&.start_with?("HTTP/1.") && rest.nil?

  headers = read_headers(socket)
  length = headers.fetch("content-length", "0")
  raise BadRequest if headers.key?("transfer-encoding") || length !~ /\A\d{1,6}\z/ || length.to_i > LARGEST_BODY

  socket.write("HTTP/1.1 100 Continue\r\n\r\n") if length.to_i.positive? && headers["expect"].to_s.casecmp?("100-continue")
  socket.read(length.to_i)
  Request.new(method, target, version, headers)
end

def read_headers(socket)
  headers = {}
  (MOST_FIELDS + 1).times do
    line = socket.gets("\n", LONGEST_LINE)
    raise BadRequest unless line&.end_with?("\n")
    return headers if line.strip.empty?

    name, value = line.split(":", 2)
    raise BadRequest unless value

    headers[name.downcase] = value.strip
  end
  raise BadRequest
end

# Gives status and value for a request.
def answer(request)
  known = request.path == "/health" || request.path.match?(%r{\A/details/[^/]+\z})
  return [404, { "error" => "not found" }] unless known
  return [405, { "error" => "method not allowed" }] unless %w[GET HEAD].include?(request.method)
  return [200, { "status" => "Details is healthy" }] if request.path == "/health"

  id = request.path.delete_prefix("/details/")
  return [400, { "error" => "please provide numeric product id" }] unless id.match?(/\A[0-9]{1,9}\z/)

  [200, { "id" => id.to_i, "author" => "William Shakespeare", "year" => 1595, "type" => "paperback", "pages" => 200,
          "publisher" => "PublisherA", "language" => "English", "ISBN-10" => "1234567890", "ISBN-13" => "123-1234567890" }]
end

def reply(socket, status, value, keep_alive, with_body = true)
  body = JSON.generate(value)
  head = ["HTTP/1.1 #{status} #{REASONS[status]}", "Content-Type: application/json", "Content-Length: #{body.bytesize}", "X-Served-By: #{NAME}"]
  head << "Allow: GET" if status == 405
  head << "Connection: close" unless keep_alive
  socket.write(head.join("\r\n") + "\r\n\r\n" + (with_body ? body : ""))
end

def log(request, status)
  return if request.target == "/health"

  $stdout.write("#{request.method} #{request.target} #{status} x-request-id=#{request.headers["x-request-id"]} traceparent=#{request.headers["traceparent"]}\n")
end

# The requests under way, so that the end can wait for them.
class Busy
  def initialize
    @count = 0
    @mutex = Mutex.new
  end

  def during
    @mutex.synchronize { @count += 1 }
    yield
  ensure
    @mutex.synchronize { @count -= 1 }
  end

  def wait(seconds)
    (seconds * 100).times do
      return if @mutex.synchronize { @count.zero? }

      sleep 0.01
    end
  end
end

def serve(socket, busy)
  while (request = read_request(socket))
    keep_alive = request.keep_alive?
    busy.during do
      status, value = answer(request)
      reply(socket, status, value, keep_alive, request.method != "HEAD")
      log(request, status)
    end
    break unless keep_alive
  end
rescue BadRequest
  reply(socket, 400, { "error" => "malformed request" }, false)
rescue SystemCallError, IOError
  nil # the client has gone
ensure
  socket.close
end

$stdout.sync = true
Thread.report_on_exception = true
port = (ARGV[0] || 9080).to_i
server = TCPServer.new(ARGV[1] || "127.0.0.1", port)
server.listen(128)
busy = Busy.new
ended, ending = IO.pipe
%w[TERM INT].each { |signal| trap(signal) { ending.write_nonblock(".") } }

until IO.select([server, ended]).first.include?(ended)
  socket = server.accept
  socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
  Thread.new(socket) { |connection| serve(connection, busy) }
end
server.close
busy.wait(5)
exit
