package capture

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// Listening reports whether anybody in this network namespace listens by TCP on one of the ports, whichever address it is. It connects to
// nobody and needs no privilege.
func Listening(ports ...uint16) (bool, error) {
	families := 0
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the machine has no such family
		}
		if err != nil {
			return false, err
		}
		families++
		is, err := listens(file, ports)
		_ = file.Close()
		if is || err != nil {
			return is, err
		}
	}
	if families == 0 {
		return false, errors.New("/proc does not say who listens")
	}
	return false, nil
}

// stateListen is TCP_LISTEN, as proc_net_tcp writes it.
const stateListen = "0A"

// listens reads what proc_net_tcp (docs.kernel.org, networking) writes. The kernel writes those that listen first: at the first other one
// it is over, however many connections there are.
func listens(text io.Reader, ports []uint16) (bool, error) {
	lines := bufio.NewScanner(text)
	lines.Scan() // what the columns are
	for lines.Scan() {
		columns := bytes.Fields(lines.Bytes())
		if len(columns) < 4 || string(columns[3]) != stateListen {
			break
		}
		_, digits, _ := bytes.Cut(columns[1], []byte(":"))
		port, err := strconv.ParseUint(string(digits), 16, 16)
		if err == nil && slices.Contains(ports, uint16(port)) {
			return true, nil
		}
	}
	return false, lines.Err()
}
