package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// modes are the two that Serve has for HTTP/1.1.
var modes = map[string][]InboundOption{"net/http": nil, "codec": {WithServerCodec(nil)}}

func TestServerCodecSmoke(t *testing.T) {
	in, l := inbound(t), listen(t)
	run(t, in, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, b, r.Host)
	})}, l, modes["codec"]...)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		t.Log(resp.Status, resp.Header, string(b))
	}
}
