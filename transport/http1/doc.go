// Package http1 is a strict, synchronous HTTP/1.1 codec (RFC 9110, RFC 9112) on pooled buffers. It reads and
// writes messages on connections that its caller owns; it knows no mesh, dials nothing and starts no goroutine
// but the one of a [Wheel].
//
// How it differs from net/http:
//
//  1. It is strict. What RFC 9112 calls invalid is refused with an [Error] that names the section, and so are
//     some things that it leaves to the recipient's taste; [Limits] states a bound for every dimension.
//  2. A head stays where it was read: [Fields] is an index over one pooled buffer. There is no map, and no
//     message allocates in steady state. Strings alias the buffer: they are valid until the next ReadRequest,
//     ReadResponse, Release or Close of their connection; clone what is kept.
//  3. It is synchronous: reading and writing happen in the caller's goroutine. A connection that waits in
//     [Conn.WaitReadable] holds no buffer.
//  4. A body's end is known exactly, and bytes after it stay in the connection: the next request of a pipeline,
//     or what a server sent unasked.
//
// The reading side of a server, and the writing of the answer:
//
//	c := http1.NewConn(accepted, nil)
//	defer c.Close()
//	var q http1.Request // reuse both: they keep their index
//	var w http1.Writer
//	for {
//		if err := c.WaitReadable(); err != nil { // idle, without a buffer; io.EOF is the clean end
//			return
//		}
//		if err := c.ReadRequest(&q); err != nil {
//			// *http1.Error: answer err.Status and close; anything else: close.
//			return
//		}
//		for {
//			piece, err := q.Body.Next(64 << 10)
//			if err != nil { // io.EOF: the end, and q.Body.Trailer() is complete
//				break
//			}
//			use(piece)
//		}
//		w.Reset(c)
//		w.Response(200, "OK", q.Method())
//		w.Field("Content-Type", "text/plain")
//		w.Length(6)
//		if err := w.Finish([]byte("hello\n")); err != nil { // one write
//			return
//		}
//		c.Release()
//		if !q.Persistent() {
//			return
//		}
//	}
//
// The client's side is [Writer.Request] and [Conn.ReadResponse], once for each 1xx (at most [MaxInformational])
// and once for the final response; [Pool] keeps connections between requests, and [Conn.Ask] sends on one that was
// kept. [Fields] serves as a matcher's view of the header through a type of the caller's:
//
//	type headers http1.Fields
//	func (h *headers) Value(n *call.Name, i int) (string, bool) { return (*http1.Fields)(h).Get(n.Lower(), i) }
//
// # Stricter than RFC 9112
//
// Refused although the RFC permits a recipient to accept them:
//
//   - a repeated Content-Length even of one value, and Content-Length together with Transfer-Encoding (§6.3);
//   - any transfer coding but chunked (§6.1: 501), whitespace after the values of these two fields (§5);
//   - a Content-Length of more than 19 digits, a chunk size of more than 16, whitespace in chunk lines (§7.1);
//   - a bare LF as a line's end, line folding (§2.2, §5.2), more than one empty line before a request (§2.2);
//   - an empty Host (RFC 9110 §4.2.1), sub-delimiters, percent-encoding and IPvFuture in a host (RFC 3986 §3.2.2),
//     schemes other than http and https, methods of more than 32 bytes, the method PRI (RFC 9113 §3.4);
//   - HTTP/1.2 and above (RFC 9110 §2.5), more than one Expect;
//   - in responses a status line without the space after the code, 1xx and 204 with a length above 0;
//   - trailer fields that frame, route or concern the connection (RFC 9110 §6.5.1).
//
// Accepted although RFC 3986 does not list them, because browsers send them as they are: the bytes [ ] | ^ in a target,
// and \ { } ` and a percent sign without two digits in a query. Which methods to serve, whether a Host that differs from the
// target passes, and how many 1xx responses are enough, is the caller's to say.
//
// Layer L0.
package http1
